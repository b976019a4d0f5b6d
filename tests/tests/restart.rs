//! The server goes away and comes back; containers do not notice.

use std::time::{Duration, Instant};

use Runtime::{Crun, Runc};
use gantry_api::{INIT, event_type};
use gantry_tests::{Process, Runtime, Server, events, improves, processes, programs::is_incumbent};
use rstest::rstest;
use rustix::process::Signal;

#[rstest]
#[tokio::test]
async fn containers_live_on(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(Signal::TERM, Signal::KILL)] signal: Signal,
) {
    let Some(mut server) = Server::own(runtime).await else { return };
    let container = server.container("c").sh("cat; exit 7").request(|request| {
        request.labels = vec!["a=1".to_owned(), "b=2".to_owned()];
    });
    let mut container = container.create().await.unwrap();
    let mut exec = container.exec("e").sh("cat; exit 8").start().await.unwrap();
    for process in [&mut container.init, &mut exec] {
        process.pipes().write(b"ready\n").await;
        process.pipes().stdout_until("ready\n").await;
    }
    let mut before = container.state().await.unwrap();

    server.end(signal).await;
    // The streams go on while there is no server.
    for process in [&mut container.init, &mut exec] {
        process.pipes().write(b"without a server\n").await;
        process.pipes().stdout_until("without a server\n").await;
    }
    server.start_again().await;
    let mut after = container.state().await.unwrap();
    if is_incumbent() {
        // It lists them in any order.
        for state in [&mut before, &mut after] {
            state.processes.sort_unstable_by(|one, other| one.pid.cmp(&other.pid));
        }
    }
    assert_eq!(after, before, "it is as before");

    for (process, status) in [(&mut exec, 8), (&mut container.init, 7)] {
        process.pipes().write(b"and after\n").await;
        process.pipes().stdin = None;
        process.close_stdin().await.unwrap();
        assert_eq!(process.pipes().stdout_text().await, "and after\n");
        assert_eq!(process.exit().await, status);
    }
    server.finish().await;
}

/// Exits of processes that ended in the meantime are published in order when the server is back.
#[rstest]
#[tokio::test]
async fn exits_without_a_server_are_published_later(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original never reports some") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let mut code = server.container("code").sh("read line; exit 42").create().await.unwrap();
    let signal = server.container("signal").create().await.unwrap();
    let alone = server.container("alone").create().await.unwrap();
    let mut with_exec =
        server.container("with-exec").sh("read line; exit 5").create().await.unwrap();
    let mut first = with_exec.exec("e").sh("read line; exit 6").start().await.unwrap();
    let mut exec = alone.exec("e").sh("read line; exit 9").start().await.unwrap();

    server.kill().await;
    for process in [&mut code.init, &mut first, &mut exec] {
        process.pipes().write(b"go\n").await;
        assert!(process.ends_within(gantry_tests::PATIENCE).await);
    }
    with_exec.init.pipes().write(b"go\n").await;
    assert!(with_exec.init.ends_within(gantry_tests::PATIENCE).await);
    processes::signal(signal.init.system_pid, Signal::KILL);
    assert!(signal.init.ends_within(gantry_tests::PATIENCE).await);
    server.start_again().await;

    assert_eq!(code.init.exit().await, 42);
    assert_eq!(signal.init.exit().await, 137);
    assert_eq!(first.exit().await, 6);
    assert_eq!(with_exec.init.exit().await, 5);
    assert_eq!(exec.exit().await, 9);
    assert_eq!(alone.state().await.unwrap().processes.len(), 1);
    alone.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn output_without_a_server_is_kept(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original loses what nobody has read by the exit") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let script = "read line; echo last words; exit 3";
    let mut container = server.container("c").sh(script).create().await.unwrap();
    server.kill().await;
    let pipes = container.init.pipes();
    pipes.write(b"go\n").await;
    // The daemon restarts too: nobody has the pipes open when the process ends.
    pipes.hang_up();
    assert!(container.init.ends_within(gantry_tests::PATIENCE).await);
    server.start_again().await;
    container.init.pipes().reopen();
    assert_eq!(container.init.pipes().stdout_text().await, "last words\n");
    assert_eq!(container.init.exit().await, 3);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_paused_container_stays_paused(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original forgets it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.pause().await;
    server.kill().await;
    server.start_again().await;
    assert_eq!(container.state().await.unwrap().status, "paused");
    container.resume().await;
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn everything_works_after_many_restarts(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(mut server) = Server::own(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for round in 0..5 {
        server.kill().await;
        server.start_again().await;
        let exec = container.exec("e").sh(&format!("exit {round}")).start().await.unwrap();
        assert_eq!(exec.exit().await, round);
        let other = server.container("again").sh(&format!("exit {round}")).create().await.unwrap();
        assert_eq!(other.init.exit().await, round);
    }
    container.init.kill().await;
    let all = server.service.events.all();
    assert_eq!(all.len(), 2 + 5 * 4, "{}", events::listing(&all));
    server.finish().await;
}

/// However often the server restarts, an exit is published once: while the server comes and goes, containers
/// end at random moments.
#[rstest]
#[tokio::test]
async fn an_exit_is_published_once(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original never reports some") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let mut containers = Vec::new();
    for number in 0..20 {
        let script = format!("sleep 0.{number:02}; exit {number}");
        let container = server.container(&format!("c{number}")).without_pipes().sh(&script);
        containers.push(container.create().await.unwrap());
    }
    for _ in 0..4 {
        server.kill().await;
        server.start_again().await;
    }
    for (number, container) in (0..).zip(&containers) {
        assert_eq!(container.init.exit().await, number);
    }
    let all = server.service.events.all();
    assert_eq!(all.len(), 40, "{}", events::listing(&all));
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_terminal_lives_on(#[values(Runc, Crun)] runtime: Runtime) {
    if runtime == Crun && improves("a terminal on crun") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let mut container = server.container("c").terminal().args(&["sh"]).create().await.unwrap();
    container.init.pipes().write(b"echo $((1 + 1))-first\n").await;
    container.init.pipes().stdout_until("2-first").await;
    server.kill().await;
    container.init.pipes().write(b"echo $((2 + 2))-second\n").await;
    container.init.pipes().stdout_until("4-second").await;
    server.start_again().await;
    container.init.resize(90, 33).await.unwrap();
    container.init.pipes().write(b"stty size; exit 4\n").await;
    container.init.pipes().stdout_until("33 90").await;
    assert_eq!(container.init.exit().await, 4);
    server.finish().await;
}

/// The server dies while a runtime creates a container: the retry with the same id succeeds, and
/// nothing of the first attempt is left.
#[rstest]
#[tokio::test]
async fn a_half_created_container_is_removed(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values("before", "after")] moment: &str,
) {
    if improves("the original never forgets it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let reached = server.work().join("reached");
    let hang = format!("echo > {}; exec sleep 1000000", reached.display());
    let script = match moment {
        "before" => format!("case $command in create|run) {hang};; esac"),
        _ => format!("case $command in create|run) {} \"$@\"; {hang};; esac", runtime.name()),
    };
    let wrapper = gantry_tests::runtime::wrapper(server.work(), runtime, &script);
    let container = server.container("c").runtime(runtime).without_pipes();
    let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
    let create = tokio::spawn(container.create());
    gantry_tests::eventually("the runtime is called", || reached.exists()).await;
    server.kill().await;
    create.await.unwrap().expect_err("the server is gone");

    server.start_again().await;
    let container = server.container("c").sh("exit 3").create().await.unwrap();
    assert_eq!(container.init.exit().await, 3);
    let all = server.service.events.all();
    assert_eq!(all.len(), 2, "the first attempt has no events:\n{}", events::listing(&all));
    server.finish().await;
}

#[tokio::test]
async fn the_shims_of_a_dead_server_are_found_again() {
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let shims = |process: &Process| process.shim().expect("a shim");
    let before = [shims(&container.init), shims(&exec)];
    server.kill().await;
    server.start_again().await;
    container.state().await.unwrap();
    assert_eq!([shims(&container.init), shims(&exec)], before, "the same ones");
    exec.kill().await;
    container.init.kill().await;
    server.finish().await;
}

/// A daemon of 2017 waits as long.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// The server ends at once, whatever its containers do.
#[tokio::test]
async fn a_stop_waits_for_no_container() {
    let Some(mut server) = Server::own(Runc).await else { return };
    let mut containers = Vec::new();
    for number in 0..5 {
        containers.push(server.container(&format!("c{number}")).create().await.unwrap());
    }
    // A busy machine may take its time, but not each time.
    let mut quickest = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        let (_, stop) = server.end(Signal::TERM).await;
        let begin = Instant::now();
        server.start_again().await;
        quickest = (quickest.0.min(stop), quickest.1.min(begin.elapsed()));
        if quickest.0 < STOPPED_WITHIN && quickest.1 < BACK_WITHIN {
            break;
        }
    }
    assert!(quickest.0 < STOPPED_WITHIN && quickest.1 < BACK_WITHIN, "{quickest:?}");
    for container in &containers {
        assert_eq!(container.init.kill().await, 137);
        let own = server.service.events.all();
        let own = own.iter().filter(|event| event.id == container.id);
        let seen: Vec<_> = own.map(|event| event.r#type.as_str()).collect();
        assert_eq!(seen, [event_type::START_CONTAINER, event_type::EXIT], "{INIT}");
    }
    server.finish().await;
}
