//! How containers end: stop, kill, OOM, restart policies.

use std::time::{Duration, Instant};

use crate::{
    dockerd::{Docker, IMAGE},
    host::eventually,
};

#[tokio::test]
async fn stop_ends_a_container_with_its_own_exit_code() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    docker.ok(&["stop", "service"]);
    assert_eq!(docker.exit_code("service"), "exited 5");
    docker.ok(&["start", "service"]);
    docker.becomes("service", "{{.State.Running}}", "true").await;
    docker.ok(&["restart", "--time=0", "service"]);
    assert_eq!(docker.running(), ["service"]);
    docker.finish().await;
}

#[tokio::test]
async fn stop_kills_what_does_not_end_by_itself() {
    let docker = Docker::start().await;
    docker.run("deaf", &[], "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    docker.prints("deaf", "ready").await;
    let begin = Instant::now();
    docker.ok(&["stop", "--time=1", "deaf"]);
    assert!(begin.elapsed() >= Duration::from_secs(1), "after {:?}", begin.elapsed());
    assert_eq!(docker.exit_code("deaf"), "exited 137");
    docker.finish().await;
}

#[tokio::test]
async fn kill_sends_the_signal_that_is_asked_for() {
    let docker = Docker::start().await;
    docker.run("traps", &[], "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done");
    docker.prints("traps", "ready").await;
    docker.ok(&["kill", "--signal=USR1", "traps"]);
    docker.prints("traps", "usr1").await;
    assert_eq!(docker.running(), ["traps"]);
    docker.ok(&["kill", "traps"]);
    assert_eq!(docker.ok(&["wait", "traps"]), "137");
    let (_, text) = docker.fails(&["kill", "traps"]);
    assert!(text.contains("is not running"), "{text}");
    docker.finish().await;
}

#[tokio::test]
async fn a_signal_to_the_client_reaches_the_container() {
    let docker = Docker::start().await;
    let run = ["run", "--name", "service", IMAGE, "sh", "-c", crate::dockerd::SERVICE];
    let mut client = docker.in_background(&run, "run.log");
    client.prints("ready").await;
    // timeout(1) passes it on to the client, and the client to dockerd.
    gantry_tests::processes::signal(client.pid(), rustix::process::Signal::TERM);
    client.code_within(gantry_tests::PATIENCE).await.expect("the client ends");
    assert_eq!(docker.ok(&["wait", "service"]), "5");
    docker.finish().await;
}

#[tokio::test]
async fn a_container_that_is_removed_by_force_is_gone() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    let (_, text) = docker.fails(&["rm", "service"]);
    assert!(text.contains("cannot remove") && text.contains("running"), "{text}");
    docker.ok(&["rm", "--force", "service"]);
    assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "");
    // The name is free again.
    docker.run_service("service", &[]).await;
    docker.finish().await;
}

#[tokio::test]
async fn running_out_of_memory_is_reported() {
    let docker = Docker::start().await;
    let events = ["events", "--filter=event=oom", "--format={{.Actor.Attributes.name}}"];
    let events = docker.in_background(&events, "events.log");
    // Init itself, and a child that init survives.
    let eats = "tail /dev/zero";
    docker.run("init", &["--memory=16m"], &format!("exec {eats}"));
    assert_eq!(docker.ok(&["wait", "init"]), "137");
    assert_eq!(docker.inspect("init", "{{.State.OOMKilled}}"), "true");
    events.prints("init").await;
    docker.run("child", &["--memory=16m"], &format!("{eats}; echo code $?; exit 6"));
    assert_eq!(docker.ok(&["wait", "child"]), "6");
    assert_eq!(docker.ok(&["logs", "child"]).lines().last(), Some("code 137"));
    events.prints("child").await;
    docker.run("modest", &["--memory=16m"], "exit 137");
    assert_eq!(docker.ok(&["wait", "modest"]), "137");
    assert_eq!(docker.inspect("modest", "{{.State.OOMKilled}}"), "false");
    docker.finish().await;
}

#[tokio::test]
async fn restart_policies_are_kept() {
    let docker = Docker::start().await;
    docker.run("fails", &["--restart=on-failure:2"], "echo once; exit 3");
    docker.run("succeeds", &["--restart=on-failure:2"], "echo once; exit 0");
    docker.run("always", &["--restart=always"], "echo once; sleep 0.2");
    docker.becomes("fails", "{{.RestartCount}} {{.State.Status}}", "2 exited").await;
    assert_eq!(docker.exit_code("fails"), "exited 3");
    assert_eq!(docker.ok(&["logs", "fails"]), "once\nonce\nonce");
    docker.becomes("succeeds", "{{.RestartCount}} {{.State.Status}}", "0 exited").await;
    let started = || docker.ok(&["logs", "always"]).lines().count();
    eventually("it starts again and again", || started() >= 3).await;
    docker.ok(&["stop", "--time=0", "always"]);
    assert_eq!(docker.running(), [""; 0]);
    docker.finish().await;
}
