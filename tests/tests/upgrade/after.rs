//! What this version does with what the earlier one left.

use gantry_api::{
    INIT, Timestamp, event_type,
    types::{StatsRequest, UpdateContainerRequest, UpdateResource},
};
use gantry_tests::{
    Container, Process, Server, cgroup,
    events::{BEGINNING, is_exit, listing, stored, time},
    eventually, leftovers, patiently,
};

use crate::before::{Before, OOM_SCORE_ADJ, calculates, state};

const MEMORY: u64 = 64 << 20;

/// The journal has the events that the earlier version published, with their times, and then the exit that no
/// subscriber received: also for a daemon that continues from its last event.
pub(crate) async fn events_are_replayed(server: &Server, before: &Before, ended: Timestamp) {
    let mut api = server.service.api();
    let all = stored(&mut api, BEGINNING).await;
    let (old, new) = all.split_at_checked(before.events.len()).expect("no fewer than before");
    let mut expected = before.events.clone();
    for event in &mut expected {
        // It named a process there, which old clients take for an exec.
        if event.r#type == event_type::START_CONTAINER {
            assert_eq!(event.pid, INIT);
            event.pid.clear();
        }
    }
    assert_eq!(old, expected, "as they were");
    let unseen = new.first().expect("one more");
    assert!(is_exit(unseen, &before.unseen.id, INIT), "{}", listing(new));
    assert!(time(unseen) < (ended.seconds, ended.nanos), "{}", listing(new));
    let later = new.get(1).is_none_or(|event| time(event) > (ended.seconds, ended.nanos));
    assert!(later, "{}", listing(new));
    let last = before.events.last().and_then(|event| event.timestamp).expect("a time");
    assert!(stored(&mut api, last).await.starts_with(new));
}

pub(crate) async fn exits_of_the_meantime_are_published(server: &Server, before: &Before) {
    let Before { ends_away, stopping, killed, unread_away, unseen, .. } = before;
    assert_eq!(ends_away.exit().await, 9);
    for (container, status) in [(stopping, 12), (killed, 137), (unread_away, 6), (unseen, 21)] {
        assert_eq!(container.init.exit().await, status, "{}", container.id);
        assert!(container.state().await.is_err(), "{} is over", container.id);
    }
    assert!(cgroup::directories(&killed.cgroup).is_empty(), "{}", server.log());
}

pub(crate) async fn the_rest_is_as_before(server: &Server, before: &Before) {
    let ended = [&before.stopping, &before.killed, &before.unread_away].map(|ended| &ended.id);
    let mut expected = before.state.clone();
    expected.retain(|container| !ended.contains(&&container.id));
    for container in &mut expected {
        let ended = &before.ends_away;
        if container.id == ended.container {
            container.processes.retain(|process| process.pid != ended.id);
            container.pids.retain(|pid| *pid != ended.system_pid);
        }
    }
    assert_eq!(state(server).await, expected);
    let ids: Vec<_> = expected.iter().map(|container| container.id.as_str()).collect();
    let all = ["frozen", "limited", "paused", "shared-1", "shared-2", "terminal", "worker"];
    assert_eq!(ids, all);
}

pub(crate) async fn all_can_be_used(server: &Server, before: Before) {
    let Before { mut worker, mut exec, mut console, mut terminal, .. } = before;
    exec.pipes().write(b"after\n").await;
    assert_eq!(exec.pipes().stdout_text().await, "after\n");
    assert_eq!(exec.exit().await, 8);
    for (process, width) in [(&mut console, 91), (&mut terminal.init, 92)] {
        calculates(process, 3).await;
        process.resize(width, 34).await.unwrap();
        process.pipes().write(b"stty size\n").await;
        process.pipes().stdout_until(&format!("34 {width}")).await;
    }
    assert_eq!(console.kill().await, 137);
    terminal.init.pipes().write(b"exit 5\n").await;
    assert_eq!(terminal.init.exit().await, 5);
    for process in [&mut console, &mut terminal.init] {
        // What is not read is kept.
        process.pipes().stdout().await;
    }

    every_call_works(server, &worker).await;
    ends_with_its_input(&mut worker.init).await;
    assert_eq!(worker.init.exit().await, 7);
    paused_ones_go_on(&before.paused, &before.frozen).await;
    out_of_memory_is_reported(server, before.limited).await;
    let [one, other] = before.shared;
    assert_eq!(one.init.kill().await, 137);
    assert_eq!(other.state().await.unwrap().status, "running", "its cgroup was the other's too");
    assert_eq!(other.init.kill().await, 137);
    assert!(cgroup::directories(&other.cgroup).is_empty());
    for mut unread in [before.unread, before.unread_away] {
        unread.init.pipes().reopen();
        assert_eq!(unread.init.pipes().stdout_text().await, "words\n", "{}", unread.id);
    }

    // Ids of the earlier version are free.
    for id in ["worker", "unseen", "killed", "younger"] {
        let mut container = server.container(id).sh("cat; exit 14").create().await.unwrap();
        let exec = container.exec("exec").sh("exit 15").start().await.unwrap();
        assert_eq!(exec.exit().await, 15);
        ends_with_its_input(&mut container.init).await;
        assert_eq!(container.init.exit().await, 14);
    }
}

/// A process that echoes its input has all of it, and then its end.
async fn ends_with_its_input(process: &mut Process) {
    process.pipes().write(b"last words").await;
    process.pipes().stdin = None;
    process.close_stdin().await.unwrap();
    assert!(process.pipes().stdout_text().await.ends_with("last words"));
}

async fn every_call_works(server: &Server, worker: &Container) {
    worker.init.signal(0).await.unwrap();
    let newer = worker.exec("newer").sh("echo of this version; exit 10").start().await;
    let mut newer: Process = newer.unwrap();
    assert_eq!(newer.pipes().stdout_text().await, "of this version\n");
    assert_eq!(newer.exit().await, 10);

    let resources = UpdateResource { memory_limit: MEMORY, memory_swap: MEMORY, ..<_>::default() };
    let resources = Some(resources);
    worker.update(UpdateContainerRequest { resources, ..<_>::default() }).await.unwrap();
    let file = if cgroup::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(cgroup::read(&worker.cgroup, file), Some(MEMORY.to_string()));
    let request = StatsRequest { id: worker.id.clone() };
    let stats = patiently("Stats", server.service.api().stats(request)).await.unwrap();
    let stats = stats.into_inner().cgroup_stats.expect("of the cgroup");
    let memory = stats.memory_stats.and_then(|memory| memory.usage).expect("of memory");
    assert!(memory.limit == MEMORY && memory.usage > 0, "{memory:?}");
    assert!(stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).is_some_and(|cpu| cpu.total_usage > 0));
    assert!(stats.pids_stats.is_some_and(|pids| pids.current > 0));

    worker.pause().await;
    assert_eq!(worker.state().await.unwrap().status, "paused");
    worker.resume().await;
    assert_eq!(worker.state().await.unwrap().status, "running");
}

async fn paused_ones_go_on(paused: &Container, frozen: &Container) {
    paused.resume().await;
    assert_eq!(paused.state().await.unwrap().status, "running");
    let exec = paused.exec("exec").sh("cat /proc/self/oom_score_adj; exit 11");
    let mut exec = exec.start().await.unwrap();
    assert_eq!(exec.pipes().stdout_text().await.trim(), OOM_SCORE_ADJ.to_string());
    assert_eq!(exec.exit().await, 11);
    assert_eq!(paused.init.kill().await, 137);
    assert_eq!(frozen.init.kill().await, 137, "killed although it is paused");
}

async fn out_of_memory_is_reported(server: &Server, mut limited: Container) {
    limited.init.pipes().write(b"go\n").await;
    assert_eq!(limited.init.exit().await, 4);
    // Its shell has reported the kill there.
    limited.init.pipes().stderr().await;
    let events = server.service.events.all();
    let own = events.iter().filter(|event| event.id == limited.id);
    let mut types: Vec<_> = own.map(|event| event.r#type.as_str()).collect();
    // On version 1 the kernel may announce one kill twice, before and after it.
    types.dedup();
    assert_eq!(types, [event_type::START_CONTAINER, event_type::OOM, event_type::EXIT]);
}

/// To a daemon that has followed the events of both versions, and to one that asks for all at the end.
pub(crate) async fn each_exit_was_published_once(server: &Server) {
    let events = server.service.events.all();
    let exits = events.iter().filter(|event| event.r#type == event_type::EXIT);
    let mut exits: Vec<_> =
        exits.map(|exit| (exit.id.as_str(), exit.pid.as_str(), exit.status)).collect();
    exits.sort_unstable();
    let expected = [
        ("frozen", INIT, 137),
        ("killed", "exec", 15),
        ("killed", INIT, 14),
        ("killed", INIT, 137),
        ("limited", INIT, 4),
        ("paused", "exec", 11),
        ("paused", INIT, 137),
        ("shared-1", INIT, 137),
        ("shared-2", INIT, 137),
        ("stopping", INIT, 12),
        ("terminal", INIT, 5),
        ("unread", INIT, 3),
        ("unread-away", INIT, 6),
        ("unseen", "exec", 15),
        ("unseen", INIT, 14),
        ("unseen", INIT, 21),
        ("worker", "console", 137),
        ("worker", "ends-away", 9),
        ("worker", "exec", 8),
        ("worker", "exec", 15),
        ("worker", INIT, 7),
        ("worker", INIT, 14),
        ("worker", "newer", 10),
        ("younger", "exec", 15),
        ("younger", INIT, 14),
    ];
    assert_eq!(exits, expected, "{}", listing(&events));
    assert_eq!(stored(&mut server.service.api(), BEGINNING).await, events);
    let nothing = || leftovers::in_state(&server.state_dir(), 1).is_empty();
    eventually("nothing is left in the state directory", nothing).await;
}
