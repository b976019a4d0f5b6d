//! dockerd with `--live-restore`, killed and restarted while containers run, alone and together with the
//! server under test.

use rstest::rstest;
use rustix::process::Signal;

use crate::dockerd::Docker;

/// Starts containers of which one is to run on and the others end while nobody watches.
async fn run_all(docker: &Docker) {
    docker.run_service("stays", &["--restart=always"]).await;
    docker.run_service("ends", &[]).await;
    docker.run_service("killed", &[]).await;
}

/// Ends them while dockerd, and perhaps the server, is away.
async fn end_some(pids: [u32; 2]) {
    let [ends, killed] = pids;
    gantry_tests::processes::signal(ends, Signal::TERM);
    gantry_tests::processes::kill(killed);
    for pid in pids {
        assert!(gantry_tests::processes::ends_within(pid, gantry_tests::PATIENCE).await);
    }
}

/// What is so after any restart.
async fn all_is_known(docker: &Docker, pid: u32) {
    docker.becomes("ends", "{{.State.Status}} {{.State.ExitCode}}", "exited 5").await;
    docker.becomes("killed", "{{.State.Status}} {{.State.ExitCode}}", "exited 137").await;
    assert_eq!(docker.running(), ["stays"]);
    assert_eq!(docker.pid("stays"), pid, "the same process");
    assert_eq!(docker.ok(&["exec", "stays", "echo", "well"]), "well");
    docker.ok(&["exec", "stays", "sh", "-c", "echo later > /proc/1/fd/1"]);
    docker.prints("stays", "ready\nlater").await;
    docker.ok(&["stop", "stays"]);
    assert_eq!(docker.exit_code("stays"), "exited 5");
}

#[rstest]
#[tokio::test]
async fn containers_outlive_dockerd(#[values(Signal::KILL, Signal::TERM)] signal: Signal) {
    let mut docker = Docker::start_live().await;
    run_all(&docker).await;
    let pid = docker.pid("stays");
    let others = ["ends", "killed"].map(|name| docker.pid(name));
    docker.end_dockerd(signal).await;
    end_some(others).await;
    docker.start_dockerd().await;
    all_is_known(&docker, pid).await;
    docker.finish().await;
}

#[rstest]
#[tokio::test]
async fn containers_outlive_dockerd_and_the_server(
    #[values(Signal::KILL, Signal::TERM)] signal: Signal,
) {
    let mut docker = Docker::start_live().await;
    run_all(&docker).await;
    let pid = docker.pid("stays");
    let others = ["ends", "killed"].map(|name| docker.pid(name));
    docker.end_dockerd(signal).await;
    docker.host.end_server(signal).await;
    end_some(others).await;
    docker.host.start_server().await;
    docker.start_dockerd().await;
    all_is_known(&docker, pid).await;
    docker.finish().await;
}

#[tokio::test]
async fn without_live_restore_containers_end_with_dockerd() {
    let mut docker = Docker::start().await;
    docker.run_service("once", &[]).await;
    docker.run_service("again", &["--restart=always"]).await;
    docker.end_dockerd(Signal::TERM).await;
    let tasks = crate::host::succeeds(docker.host.ctr_in("moby", &["tasks", "ls", "--quiet"]));
    assert_eq!(tasks, "");
    docker.start_dockerd().await;
    docker.becomes("again", "{{.State.Running}}", "true").await;
    assert_eq!(docker.exit_code("once"), "exited 5");
    docker.finish().await;
}
