//! Whatever hangs, everything else goes on.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use gantry_api::types::StateRequest;
use gantry_tests::{
    Container, Runtime, Server, cgroup,
    dead_mount::DeadMount,
    eventually, improves, patiently, processes,
    runtime::{wrapper, write_script},
};
use rustix::process::Signal;
use tokio::task::{JoinHandle, JoinSet};

/// Less than any deadline of the server, and more than a busy machine needs: a container and an exec
/// take some 100 ms together.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Everything one can do with a container.
async fn live(server: &Server) {
    let begin = Instant::now();
    let container = server.container("lively").without_pipes().create().await.unwrap();
    let exec = container.exec("e").without_pipes().sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    container.pause().await;
    container.resume().await;
    assert_eq!(container.init.kill().await, 137);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn nothing_waits_for_a_stopped_shim() {
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let shim = container.init.shim().expect("a shim");
    processes::signal(shim, Signal::STOP);
    live(&server).await;
    if !gantry_tests::programs::is_incumbent() {
        // Not even a start of the server, nor the stopped shim's own container.
        server.kill().await;
        server.start_again().await;
        live(&server).await;
        container.pause().await;
        container.resume().await;
        assert_eq!(container.init.kill().await, 137);
    }
    processes::signal(shim, Signal::CONT);
    server.finish().await;
}

#[tokio::test]
async fn nothing_waits_for_a_runtime_that_never_returns() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let reached = server.work().join("reached");
    let script = format!(
        "case $command in create|run) touch {}; exec sleep 1000000;; esac",
        reached.display()
    );
    let runtime = wrapper(server.work(), Runtime::Runc, &script);
    let stuck = server.container("stuck").runtime(Runtime::Runc).without_pipes();
    let stuck = stuck.request(|request| request.runtime = runtime.to_str().unwrap().to_owned());
    let call = tokio::spawn(stuck.create());
    eventually("the runtime is called", || reached.exists()).await;
    live(&server).await;
    call.abort();
    let state = server.state_dir().join("containers/types/stuck");
    eventually("the call is undone", || !state.exists()).await;
    server.finish().await;
}

#[tokio::test]
async fn nothing_waits_for_a_reader_that_never_reads() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let full = server.container("full").args(&["cat", "/dev/zero"]).config(|config| {
        let device = serde_json::json!({ "destination": "/dev/zero", "type": "bind",
            "source": "/dev/zero", "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(device);
    });
    let full = full.create().await.unwrap();
    let terminal = server.container("terminal").terminal().args(&["yes"]).create().await.unwrap();
    // Both pipes are full soon; nothing depends on whether they are yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    live(&server).await;
    assert_eq!(full.init.kill().await, 137);
    assert_eq!(terminal.init.kill().await, 137);
    server.finish().await;
}

#[tokio::test]
async fn nothing_waits_for_a_frozen_container() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let frozen = server.container("frozen").create().await.unwrap();
    cgroup::set_frozen(&frozen.cgroup, true);
    let exec = start_in_frozen(&frozen);
    live(&server).await;
    cgroup::set_frozen(&frozen.cgroup, false);
    let _ = exec.await;
    assert_eq!(frozen.init.kill().await, 137);
    server.finish().await;
}

/// An exec that cannot be started before the container is thawed.
fn start_in_frozen(container: &Container) -> JoinHandle<()> {
    let exec = container.exec("e").without_pipes().sh("exit 0");
    tokio::spawn(async move { drop(exec.start().await) })
}

/// Otherwise the call would take effect after the next server has read the container's state.
#[tokio::test]
async fn a_runtime_call_ends_with_its_server() {
    if improves("the original's runtimes go on") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory for the runtime");
    let reached = directory.path().join("reached");
    let script = format!(
        "if [ $command = pause ]; then echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000000; fi",
        reached.display()
    );
    let runtime = wrapper(directory.path(), Runtime::Runc, &script);
    let setup = Server::setup(Runtime::Runc).runtime_path(&runtime);
    let Some(mut server) = setup.start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let (pausing, ()) = tokio::join!(container.set_status("paused"), async {
        eventually("the runtime is called", || reached.exists()).await;
        server.kill().await;
    });
    pausing.expect_err("the server is gone");
    let pid = std::fs::read_to_string(&reached).unwrap().trim().parse().unwrap();
    assert!(processes::ends_within(pid, AT_ONCE).await, "the runtime goes on");
    server.start_again().await;
    assert_eq!(container.state().await.unwrap().status, "running");
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

#[tokio::test]
async fn state_waits_once_for_all_who_do_not_answer() {
    if improves("the original asks nobody") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").without_pipes().create().await.unwrap();
    let mut shims = vec![container.init.shim().expect("a shim")];
    for exec in 0..11 {
        let exec = container.exec(&format!("e{exec}")).without_pipes().args(&["sleep", "1000"]);
        shims.push(exec.start().await.unwrap().shim().expect("a shim"));
    }
    shims.iter().for_each(|shim| processes::signal(*shim, Signal::STOP));
    server.kill().await;
    server.start_again().await;
    let begin = Instant::now();
    let state = server.service.api().state(StateRequest::default()).await.unwrap().into_inner();
    // A shim is waited for 2 s: 24 s for one after the other.
    assert!(begin.elapsed() < Duration::from_secs(18), "{:?}", begin.elapsed());
    let listed: Vec<_> = state.containers.iter().map(|c| (&*c.id, &*c.status)).collect();
    assert_eq!(listed, [("c", "running")]);
    shims.iter().for_each(|shim| processes::signal(*shim, Signal::CONT));
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// An entry of PATH on a network file system whose server is gone, before the one with the runtime.
#[tokio::test]
async fn nothing_waits_for_a_dead_entry_of_path() {
    if improves("the original hangs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(dead) = DeadMount::new(&directory.path().join("dead")) else { return };
    // runc looks through PATH by itself, and hangs; this one has another.
    let path = std::env::var("PATH").unwrap();
    let place = |directory: PathBuf| Some(directory.join("runc")).filter(|place| place.exists());
    let Some(runc) = std::env::split_paths(&path).find_map(place) else { return };
    let script = format!("#!/bin/sh\nexec /usr/bin/env PATH={path} {} \"$@\"\n", runc.display());
    let living = directory.path().join("living");
    std::fs::create_dir(&living).unwrap();
    write_script(&living.join("runc"), &script);
    let path = format!("{}/bin:{}:{path}", dead.path.display(), living.display());
    let setup = Server::setup(Runtime::Runc).variable("PATH", &path);
    let Some(server) = setup.start().await else { return };
    let Some(usual) = Server::own(Runtime::Runc).await else { return };
    // The same on a server without such an entry takes what it takes on this machine now.
    let (creates, usually) = (create_many(&server), create_many(&usual));
    let begin = Instant::now();
    for _ in 0..20 {
        server.service.api().state(StateRequest::default()).await.unwrap();
    }
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    let (containers, time) = creates.await.unwrap();
    let (others, usual_time) = usually.await.unwrap();
    // The entry is waited for 1 s, and not 10 s as other files are.
    assert!(time < usual_time + Duration::from_secs(9), "{time:?}, usually {usual_time:?}");
    for container in containers.into_iter().chain(others) {
        assert_eq!(container.init.kill().await, 137);
    }
    usual.finish().await;
    server.finish().await;
}

/// Creates more than a file system has threads; the containers, and how long it took.
fn create_many(server: &Server) -> JoinHandle<(Vec<Container>, Duration)> {
    let mut creates = JoinSet::new();
    for number in 0..12 {
        creates.spawn(server.container(&format!("c{number}")).without_pipes().create());
    }
    let begin = Instant::now();
    tokio::spawn(async move {
        let created = patiently("the creates", creates.join_all()).await;
        (created.into_iter().map(Result::unwrap).collect(), begin.elapsed())
    })
}
