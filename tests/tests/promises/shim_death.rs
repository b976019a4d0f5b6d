//! A shim that is killed takes neither its process with it nor the process's exit.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use gantry_tests::{PATIENCE, Process, Runtime, Server, eventually, improves, processes};
use rstest::rstest;
use rustix::process::Signal;

use Runtime::{Crun, Runc};

async fn kill_shim(process: &Process) {
    let shim = process.shim().expect("a shim");
    processes::signal(shim, Signal::KILL);
    assert!(processes::ends_within(shim, PATIENCE).await);
}

#[rstest]
#[tokio::test]
async fn a_process_outlives_its_shim(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original kills it") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    for round in 1..=2 {
        let container =
            server.container("c").without_pipes().sh("trap 'exit 7' TERM; sleep 1000000 & wait");
        let container = container.create().await.unwrap();
        let exec =
            container.exec("e").without_pipes().args(&["sleep", "1000000"]).start().await.unwrap();
        exec.runs("sleep 1000000").await;
        kill_shim(&exec).await;
        kill_shim(&container.init).await;
        let state = container.state().await.unwrap();
        assert_eq!((state.status.as_str(), state.processes.len()), ("running", 2), "round {round}");
        exec.signal(15).await.unwrap();
        assert_eq!(exec.exit().await, 143);
        let other = container.exec("e").sh("exit 4").start().await.unwrap();
        assert_eq!(other.exit().await, 4, "an exec beside it, under the same id");
        // The handler may not be installed yet.
        while !container.init.has_exited() {
            let _ = container.init.signal(15).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(container.init.exit().await, 7);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_paused_container_outlives_its_shim(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original is stuck with it") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    for resumed in [true, false] {
        let container = server.container("c").create().await.unwrap();
        container.pause().await;
        kill_shim(&container.init).await;
        if resumed {
            container.resume().await;
            container.init.signal(9).await.unwrap();
        } else {
            // Under version 1 of cgroups a frozen process dies when it is thawed, for which there is
            // no event any more.
            container.init.signal(9).await.unwrap();
            let _ = container.set_status("running").await;
        }
        assert_eq!(container.init.exit().await, 137);
    }
    server.finish().await;
}

/// Without shim and without server only the kernel knows the status; if it does not report it, the status is unknown.
#[rstest]
#[tokio::test]
async fn a_status_is_true_or_unknown(#[values(true, false)] server_is_back: bool) {
    if improves("the original forgets it") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    server.kill().await;
    kill_shim(&exec).await;
    kill_shim(&container.init).await;
    if server_is_back {
        server.start_again().await;
        assert_eq!(container.state().await.unwrap().processes.len(), 2);
    }
    processes::signal(exec.system_pid, Signal::KILL);
    processes::signal(container.init.system_pid, Signal::KILL);
    assert!(exec.ends_within(PATIENCE).await && container.init.ends_within(PATIENCE).await);
    if !server_is_back {
        server.start_again().await;
    }
    for process in [&exec, &container.init] {
        let status = process.exit().await;
        assert!(status == 137 || status == 255, "{}: {status}", process.id);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_process_dies_with_its_shim_if_so_configured(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(false, true)] paused: bool,
) {
    let setup = Server::setup(runtime);
    let setup = match gantry_tests::programs::is_incumbent() {
        true => setup,
        false => setup.arguments(&["--on-shim-death", "kill"]),
    };
    let Some(server) = setup.start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    kill_shim(&exec).await;
    assert_eq!(exec.exit().await, 137);
    if paused {
        container.pause().await;
    }
    let mut container = container;
    // It is published within 2 s. A busy machine may take longer, but not each time.
    for round in 1.. {
        let begin = Instant::now();
        kill_shim(&container.init).await;
        assert_eq!(container.init.exit().await, 137);
        if begin.elapsed() < Duration::from_secs(2) {
            break;
        }
        assert!(round < 10, "{:?}", begin.elapsed());
        container = server.container("c").create().await.unwrap();
        if paused {
            container.pause().await;
        }
    }
    server.finish().await;
}

/// One shim waits for the next process.
#[tokio::test]
async fn a_spare_shim_may_die() {
    if improves("the original has none") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let spare = || {
        let found = processes::spare_shim(server.work(), &server.service.cgroup);
        found.map(|process| process.pid)
    };
    let container = server.container("c").create().await.unwrap();
    eventually("a spare shim", || spare().is_some()).await;
    let first = spare().unwrap();
    processes::signal(first, Signal::KILL);
    assert!(processes::ends_within(first, PATIENCE).await);

    let exec = container.exec("e").sh("exit 4").start().await.unwrap();
    assert_eq!(exec.exit().await, 4);
    eventually("another one", || spare().is_some()).await;
    let second = spare().unwrap();
    assert_eq!(container.exec("f").sh("exit 5").start().await.unwrap().exit().await, 5);
    let used = format!("/proc/{second}");
    eventually("it was used, and has left", || !Path::new(&used).exists()).await;

    eventually("a third", || spare().is_some()).await;
    let third = spare().unwrap();
    server.kill().await;
    assert!(processes::ends_within(third, PATIENCE).await, "it waits for a dead server");
    server.start_again().await;
    let new = fs::read_dir(server.state_dir().join("new")).into_iter().flatten().count();
    assert_eq!(new, 0, "directories without a shim are left");
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}
