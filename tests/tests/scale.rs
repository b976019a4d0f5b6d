//! Many at once, and what they cost.

use std::{
    fs,
    time::{Duration, Instant},
};

use Runtime::{Crun, Runc};
use gantry_api::types::{GetServerVersionRequest, StateRequest};
use gantry_tests::{
    Process, Runtime, Server, eventually, improves, patiently, processes, service::connect,
};
use rstest::rstest;
use tokio::{task::JoinSet, time::MissedTickBehavior};

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_containers(#[values(Runc, Crun)] runtime: Runtime) {
    const COUNT: u32 = 200;
    let Some(server) = Server::start(runtime).await else { return };
    let threads = if improves("its threads") { None } else { Some(threads(server.pid())) };
    let mut lives = JoinSet::new();
    for number in 0..COUNT {
        let script = format!("read line; echo \"$line\"; exit {}", number % 256);
        let container = server.container(&format!("c{number}")).sh(&script);
        lives.spawn(async move { (number, container.create().await.unwrap()) });
    }
    let containers = patiently("200 starts", lives.join_all()).await;
    let state = server.service.api().state(StateRequest::default()).await.unwrap().into_inner();
    let own = state.containers.iter().filter(|c| c.id.starts_with(&server.service.prefix));
    assert_eq!(own.filter(|container| container.status == "running").count(), COUNT as usize);
    if let Some(before) = threads {
        let now = self::threads(server.pid());
        // A runtime of tasks has a fixed number of threads, and some for files on demand.
        assert!(now < before + 40, "{now} threads, {before} at the start");
    }
    let mut ends = JoinSet::new();
    for (number, mut container) in containers {
        ends.spawn(async move {
            let line = format!("line of {number}\n");
            container.init.pipes().write(line.as_bytes()).await;
            assert_eq!(container.init.exit().await, number % 256);
            assert_eq!(container.init.pipes().stdout_text().await, line);
        });
    }
    ends.join_all().await;
    assert_eq!(server.service.events.all().len(), 2 * COUNT as usize);
    server.finish().await;
}

/// As a daemon starts them when it boots, and more with `GANTRY_TEST_LAUNCHES`. Few runtimes are at
/// work at once, and calls of others do not wait behind them, nor on a connection with all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launches_take_turns() {
    if improves("all at once") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let count: usize =
        std::env::var("GANTRY_TEST_LAUNCHES").map_or(200, |count| count.parse().unwrap());
    let resident = || processes::memory(server.pid(), "RssAnon");
    let before = resident();
    let begin = Instant::now();
    let mut creates = JoinSet::new();
    for number in 0..count {
        creates.spawn(server.container(&format!("c{number}")).without_pipes().create());
    }
    let mut others = Vec::new();
    let mut most = 0;
    let mut containers = Vec::new();
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while containers.len() < count {
        tokio::select! {
            created = creates.join_next() => containers.push(created.unwrap().unwrap().unwrap()),
            _ = looks.tick() => {
                most = most.max(runtimes(&server));
                let begin = Instant::now();
                let version = GetServerVersionRequest {};
                server.service.api().get_server_version(version).await.unwrap();
                if let Some(container) = containers.first() {
                    container.state().await.unwrap();
                }
                others.push(begin.elapsed());
            }
        }
    }
    others.sort();
    println!(
        "{count} launches in {:?}, {most} runtimes at once, {} KiB; other calls: median {:?}, \
         longest {:?}",
        begin.elapsed(),
        processes::memory(server.pid(), "VmHWM"),
        others[others.len() / 2],
        others.last().unwrap()
    );
    let processors = std::thread::available_parallelism().unwrap().get();
    // Some that have just ended are still there.
    assert!((1..=2 * (2 * processors).max(4)).contains(&most), "{most} runtimes at once");
    assert!(others[others.len() / 2] < Duration::from_secs(1), "{others:?}");
    let mut kills = JoinSet::new();
    for container in containers {
        kills.spawn(async move { container.init.kill().await });
    }
    assert!(kills.join_all().await.iter().all(|status| *status == 137));
    let most = processes::memory(server.pid(), "VmHWM");
    println!("{before} KiB before, {most} at most, {} at the end", resident());
    eventually("memory goes back", || resident() < before + (16 << 10)).await;
    server.finish().await;
}

/// Those that make containers, and have a turn: nobody waits for one of over a second.
fn runtimes(server: &Server) -> usize {
    let found = processes::belonging_to(server.work(), &server.service.cgroup);
    let make =
        |found: &&processes::Found| found.is_program("runc") && found.command.contains(" run ");
    // To find them all takes a while on a busy machine: those count that are there at its end.
    let is_young = |found: &&processes::Found| age(found.pid).is_some_and(|age| age < 1.0);
    found.iter().filter(make).filter(is_young).count()
}

/// How long ago a process that has not ended was started, in seconds: field 22 of /proc/pid/stat in
/// ticks of 10 ms since the boot, see proc(5).
fn age(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    let started: f64 = fields.nth(18)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    (!is_zombie).then_some(uptime - started / 100.0)
}

/// However much one connection wants, another one's turn comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_waits_for_no_other_ones_launches() {
    if improves("first come, first served") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    const COUNT: usize = 100;
    let mut creates = JoinSet::new();
    for number in 0..COUNT {
        creates.spawn(server.container(&format!("c{number}")).without_pipes().create());
    }
    let mut containers = vec![creates.join_next().await.unwrap().unwrap().unwrap()];
    // The rest was asked for long ago.
    let mut request = gantry_api::types::CreateContainerRequest::default();
    let other = server.container("other").without_pipes().request(|asked| request = asked.clone());
    let _ = other.bundle();
    connect(&server.service.socket).create_container(request).await.unwrap();
    while let Some(created) = creates.try_join_next() {
        containers.push(created.unwrap().unwrap());
    }
    assert!(containers.len() < COUNT / 2, "after {} others", containers.len());
    while let Some(created) = creates.join_next().await {
        containers.push(created.unwrap().unwrap());
    }
    for container in &containers {
        container.init.kill().await;
    }
    let other = gantry_api::types::SignalRequest {
        id: format!("{}other", server.service.prefix),
        pid: "init".to_owned(),
        signal: 9,
    };
    let id = other.id.clone();
    server.service.api().signal(other).await.unwrap();
    server.service.events.wait_exit(0, &id, "init").await;
    server.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_execs_in_one_container(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let mut execs = JoinSet::new();
    for number in 0..200 {
        let script = format!("echo {number}; exit {}", number % 256);
        let exec = container.exec(&format!("e{number}")).sh(&script);
        execs.spawn(async move { end_of_exec(exec.start().await.unwrap(), number).await });
    }
    patiently("200 execs", execs.join_all()).await;
    assert_eq!(container.state().await.unwrap().processes.len(), 1);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_execs_over_many(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let mut containers = Vec::new();
    for number in 0..10 {
        containers.push(server.container(&format!("c{number}")).create().await.unwrap());
    }
    let mut execs = JoinSet::new();
    for number in 0..200 {
        let script = format!("echo {number}; exit {}", number % 256);
        let container = &containers[number as usize % containers.len()];
        let exec = container.exec(&format!("e{number}")).sh(&script);
        execs.spawn(async move { end_of_exec(exec.start().await.unwrap(), number).await });
    }
    patiently("200 execs", execs.join_all()).await;
    for container in containers {
        container.init.kill().await;
    }
    server.finish().await;
}

async fn end_of_exec(mut exec: Process, number: u32) {
    assert_eq!(exec.exit().await, number % 256);
    assert_eq!(exec.pipes().stdout_text().await, format!("{number}\n"));
}

/// A shim is one thread with little memory of its own.
#[tokio::test]
async fn a_shim_is_small() {
    if improves("its shims have ten threads and megabytes") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").terminal(None).args(&["cat"]).start().await.unwrap();
    for process in [&container.init, &exec] {
        let shim = process.shim().unwrap();
        assert_eq!(threads(shim), 1);
        let rollup = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
        let dirty = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        let dirty: u64 = dirty.trim().trim_end_matches(" kB").parse().unwrap();
        // A static binary; one for debugging, with a loader and relocations, has more.
        let is_static = !maps(shim).contains("/ld-linux");
        let most = if is_static { 150 } else { 400 };
        assert!(dirty < most, "{dirty} KiB of {}:\n{rollup}", process.id);
    }
    container.init.kill().await;
    server.finish().await;
}

/// The socket answers at once however much there is to restore, and all of it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_two_hundred_containers() {
    let Some(mut server) = Server::own(Crun).await else { return };
    let mut creates = JoinSet::new();
    for number in 0..200 {
        creates.spawn(server.container(&format!("c{number}")).without_pipes().create());
    }
    let containers = patiently("200 starts", creates.join_all()).await;
    // A busy machine may take its time, but not each time.
    for round in 1.. {
        server.kill().await;
        let begin = Instant::now();
        server.start_again().await;
        let answered = begin.elapsed();
        let state = server.service.api().state(StateRequest::default()).await.unwrap().into_inner();
        let restored = begin.elapsed();
        assert_eq!(state.containers.len(), 200);
        if answered < Duration::from_secs(5) && restored < Duration::from_secs(10) {
            break;
        }
        assert!(round < 5, "answers after {answered:?}, restored after {restored:?}");
    }
    // Without the program itself, of which the kernel maps more or less.
    let resident = processes::memory(server.pid(), "RssAnon");
    assert!(resident < 24 << 10, "{resident} KiB resident");
    let mut kills = JoinSet::new();
    for container in containers {
        kills.spawn(async move { container.unwrap().init.kill().await });
    }
    assert_eq!(kills.join_all().await, [137; 200]);
    server.finish().await;
}

/// With nothing to do it does nothing: no wake-up in all the time that others take.
#[tokio::test]
async fn an_idle_server_sleeps() {
    if improves("it polls") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let shim = container.init.shim().unwrap();
    let switches = |pid: u32| -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        let count = |status: String| {
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        statuses.map(count).sum()
    };
    // Work that continues after the start ends soon.
    for round in 1.. {
        let before = (switches(server.pid()), switches(shim));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = (switches(server.pid()), switches(shim));
        // The health check of a connection, for one.
        if after.1 == before.1 && after.0 - before.0 < 20 {
            break;
        }
        assert!(round < 10, "server and shim woke up: {after:?}, before {before:?}");
    }
    container.init.kill().await;
    server.finish().await;
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

fn maps(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()
}
