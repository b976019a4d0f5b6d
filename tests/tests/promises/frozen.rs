//! SIGKILL ends a frozen process on version 1 as it does on version 2, whoever froze it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use Runtime::{Crun, Runc};
use gantry_api::event_type;
use gantry_tests::{Runtime, Server, cgroup, improves, skip, status::assert_error};
use rstest::rstest;
use tonic::Code;

fn freezer_of(group: &str) -> PathBuf {
    cgroup::freezer_v1().unwrap().join(group.trim_start_matches('/'))
}

fn set_state(directory: &Path, state: &str) {
    fs::write(directory.join("freezer.state"), state).unwrap();
}

fn here() -> bool {
    if cgroup::freezer_v1().is_none() {
        skip("version 1 has no freezer here");
    }
    cgroup::freezer_v1().is_some() && !improves("the original leaves what is frozen alone")
}

fn assert_no_resume(server: &Server) {
    let events = server.service.events.all();
    assert!(events.iter().all(|event| event.r#type != event_type::RESUME), "{events:?}");
}

#[rstest]
#[tokio::test]
async fn whoever_froze_it_a_kill_kills(#[values(Runc, Crun)] runtime: Runtime) {
    if !here() {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let by_hand = server.container("by-hand").create().await.unwrap();
    cgroup::set_frozen(&by_hand.cgroup, true);
    assert_eq!(by_hand.init.kill().await, 137);

    // By the runtime, without the server.
    let by_runtime = server.container("by-runtime").create().await.unwrap();
    let root = server.service.runtime_root(Runc);
    if runtime == Runc {
        let mut pause = Command::new("runc");
        let paused = pause.args(Runc.arguments(&root)).args(["pause", &by_runtime.id]).status();
        assert!(paused.unwrap().success());
    }
    assert_eq!(by_runtime.init.kill().await, 137);

    // A cgroup inside the container, with a process that has to end before the first one can.
    let inside = server.container("inside").create().await.unwrap();
    let exec = inside.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let nested = freezer_of(&inside.cgroup).join("nested");
    fs::create_dir(&nested).unwrap();
    fs::write(nested.join("cgroup.procs"), exec.system_pid.to_string()).unwrap();
    set_state(&nested, "FROZEN");
    assert_eq!(inside.init.kill().await, 137);
    assert_eq!(exec.exit().await, 137);
    assert_no_resume(&server);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_exec_that_is_killed_leaves_the_others_paused(#[values(Runc, Crun)] runtime: Runtime) {
    if !here() {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    container.pause().await;
    assert_eq!(exec.kill().await, 137);
    assert_eq!(container.state().await.unwrap().status, "paused");
    assert_eq!(cgroup::read(&container.cgroup, "freezer.state").unwrap(), "FROZEN");
    assert_eq!(container.init.kill().await, 137);
    assert_no_resume(&server);
    server.finish().await;
}

#[tokio::test]
async fn a_cgroup_around_it_stays_frozen_and_is_named() {
    if !here() {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let around = freezer_of(&server.service.cgroup);
    set_state(&around, "FROZEN");
    let named = around.to_str().unwrap();
    assert_error(exec.signal(9).await, Code::FailedPrecondition, &["SIGKILL", named]);
    assert_error(container.init.signal(9).await, Code::FailedPrecondition, &["SIGKILL", named]);
    assert_ne!(fs::read_to_string(around.join("freezer.state")).unwrap(), "THAWED\n");
    set_state(&around, "THAWED");
    assert_eq!(exec.exit().await, 137);
    assert_eq!(container.init.exit().await, 137);
    server.finish().await;
}
