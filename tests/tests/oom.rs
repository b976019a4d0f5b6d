//! The kernel's out-of-memory kills are always published, before the exits that they cause.

use std::sync::Arc;

use Runtime::{Crun, Runc};
use gantry_api::event_type;
use gantry_tests::{NewContainer, Runtime, Server, events, improves};
use rstest::rstest;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

/// Takes memory until it is killed.
const DEVOUR: &str = "tail /dev/zero";

#[rstest]
#[tokio::test]
async fn an_oom_kill_of_init_is_reported(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = limited(server.container("c")).args(&["tail", "/dev/zero"]);
    let container = container.create().await.unwrap();
    assert_eq!(container.init.exit().await, 137);
    assert_eq!(types(&server, "c"), ["start-container", "oom", "exit"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_oom_kill_of_an_exec_is_reported(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = limited(server.container("c")).create().await.unwrap();
    let exec = container.exec("e").args(&["tail", "/dev/zero"]).start().await.unwrap();
    assert_eq!(exec.exit().await, 137);
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    let seen = types(&server, "c");
    assert_eq!(seen, ["start-container", "start-process", "oom", "exit", "exit"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_oom_kill_of_a_child_is_reported(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let script = format!("{DEVOUR}; echo status $?; read line; exit 4");
    let container = limited(server.container("c")).sh(&script);
    let mut container = container.create().await.unwrap();
    container.init.pipes().stdout_until("status 137\n").await;
    server.service.events.wait_type(0, "c", event_type::OOM).await;
    container.init.pipes().write(b"go\n").await;
    assert_eq!(container.init.exit().await, 4);
    assert_eq!(types(&server, "c"), ["start-container", "oom", "exit"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_oom_kill_is_reported_after_a_restart(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(mut server) = Server::own(runtime).await else { return };
    let script = format!("read line; {DEVOUR}; exit 4");
    let mut container = limited(server.container("c")).sh(&script).create().await.unwrap();
    server.kill().await;
    server.start_again().await;
    container.state().await.unwrap();
    container.init.pipes().write(b"go\n").await;
    assert_eq!(container.init.exit().await, 4);
    assert_eq!(types(&server, "c"), ["start-container", "oom", "exit"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn while_there_is_no_server(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original does not see it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let script = format!("read line; {DEVOUR}; echo done; sleep 1000000");
    let mut container = limited(server.container("c")).sh(&script).create().await.unwrap();
    server.kill().await;
    container.init.pipes().write(b"go\n").await;
    container.init.pipes().stdout_until("done\n").await;
    server.start_again().await;
    container.init.kill().await;
    assert_eq!(types(&server, "c"), ["start-container", "oom", "exit"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn no_oom_is_published_without_one(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for round in 0..5 {
        let container = limited(server.container("c")).sh(&format!("exit {round}"));
        assert_eq!(container.create().await.unwrap().init.exit().await, round);
    }
    let container = limited(server.container("c")).create().await.unwrap();
    container.init.kill().await;
    let all = server.service.events.all();
    assert!(all.iter().all(|e| e.r#type != event_type::OOM), "{}", events::listing(&all));
    server.finish().await;
}

/// Hundreds of containers that die at once of it, a thousand with `GANTRY_TEST_OOM_KILLS=1000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kill_of_many_is_reported_once() {
    let times = std::env::var("GANTRY_TEST_OOM_KILLS").map_or(250, |count| count.parse().unwrap());
    if improves("the original arms its watch behind the start") {
        return;
    }
    let Some(server) = Server::start(Crun).await else { return };
    let at_once = Arc::new(Semaphore::new(6));
    let mut lives = JoinSet::new();
    for number in 0..times {
        let at_once = Arc::clone(&at_once);
        let container = server.container(&format!("c{number}")).without_pipes();
        let container = limited(container).args(&["tail", "/dev/zero"]);
        lives.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            container.create().await.unwrap().init.exit().await
        });
    }
    assert_eq!(lives.join_all().await, vec![137; times]);
    for number in 0..times {
        let id = format!("c{number}");
        assert_eq!(types(&server, &id), ["start-container", "oom", "exit"], "{id}");
    }
    server.finish().await;
}

fn limited(container: NewContainer) -> NewContainer {
    container.config(|config| {
        // runc itself, in the container's cgroup by then, has taken 16 MiB on a busy machine.
        let limit = 32 << 20;
        // Without a limit of swap it would be used first, where there is some.
        config["linux"]["resources"] = json!({ "memory": { "limit": limit, "swap": limit } });
    })
}

/// The types of a container's events, with the first `oom` only: on version 1 the kernel
/// may announce one kill twice, before and after it.
fn types(server: &Server, id: &str) -> Vec<String> {
    let all = server.service.events.all();
    let own = all.into_iter().filter(|event| event.id == id).map(|event| event.r#type);
    let mut seen = Vec::new();
    for kind in own {
        if kind != event_type::OOM || !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    seen
}
