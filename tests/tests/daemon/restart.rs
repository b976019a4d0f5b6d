//! Containers end and are started again; the daemon and gantryd go away and come back.

use std::time::Duration;

use Runtime::{Crun, Runc};
use gantry_daemon::proto::{self, ContainerConfig, ContainerStatus, RestartMode};
use gantry_tests::{Runtime, processes};
use rstest::rstest;
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::{Bed, bed::bridge};

fn policy(mode: RestartMode, max_retries: u32) -> Option<proto::RestartPolicy> {
    Some(proto::RestartPolicy { mode: mode.into(), max_retries })
}

/// Waits until the container does this.
async fn does(bed: &Bed, reference: &str, status: ContainerStatus) -> proto::Container {
    let looking = async {
        loop {
            let container = bed.inspect(reference).await.unwrap();
            if container.status() == status {
                return container;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    gantry_tests::patiently("a change of status", looking).await
}

/// Waits until the container was started once more, and runs.
async fn restarted(bed: &Bed, reference: &str) -> proto::Container {
    let looking = async {
        loop {
            let container = does(bed, reference, ContainerStatus::Running).await;
            if container.restart_count > 0 {
                return container;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    gantry_tests::patiently("a restart", looking).await
}

#[tokio::test]
async fn a_failing_container_is_started_again_as_often_as_its_policy_says() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let config = ContainerConfig {
        restart_policy: policy(RestartMode::OnFailure, 2),
        networking: bridge(&[]),
        ..bed.script("echo run; exit 5")
    };
    let id = bed.run("web", config).await;
    assert_eq!(bed.wait("web").await, 5);
    assert_eq!(bed.output(&id), "run\nrun\nrun\n");
    assert_eq!(bed.inspect("web").await.unwrap().restart_count, 2);
    let config = ContainerConfig {
        restart_policy: policy(RestartMode::OnFailure, 0),
        ..bed.script("echo run")
    };
    let id = bed.run("fine", config).await;
    assert_eq!(bed.wait("fine").await, 0);
    assert_eq!(bed.output(&id), "run\n");
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_stop_ends_the_restarts() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let always = || policy(RestartMode::Always, 0);
    let config = ContainerConfig { restart_policy: always(), ..bed.script("exec sleep 1000000") };
    bed.run("web", config).await;
    let before = bed.inspect("web").await.unwrap();
    let kill = proto::KillContainerRequest { reference: "web".into(), signal: "KILL".into() };
    bed.api().kill_container(kill).await.unwrap();
    let after = restarted(&bed, "web").await;
    assert!(after.pid != before.pid && after.restart_count == 1, "{after:?}");
    bed.stop("web").await;
    assert_eq!(bed.inspect("web").await.unwrap().status(), ContainerStatus::Exited);

    // One that waits for its next start.
    let id =
        bed.run("looping", ContainerConfig { restart_policy: always(), ..bed.script("echo run") });
    let id = id.await;
    let runs = || bed.output(&id).lines().count();
    gantry_tests::eventually("it has run three times", || runs() >= 3).await;
    loop {
        does(&bed, "looping", ContainerStatus::Restarting).await;
        bed.stop("looping").await;
        match bed.wait("looping").await {
            0 => break,
            // It was just started once more, and killed.
            137 => bed.start("looping").await.unwrap(),
            status => panic!("{status}"),
        }
    }
    let runs = bed.output(&id);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.output(&id), runs);
    bed.remove("looping", false).await.unwrap();
    bed.assert_clean().await;
}

#[rstest]
#[tokio::test]
async fn containers_outlive_the_daemon(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(Signal::TERM, Signal::KILL)] signal: Signal,
) {
    let Some(mut bed) = Bed::make(runtime).await else { return };
    let on_bridge = |script| ContainerConfig { networking: bridge(&[]), ..bed.script(script) };
    let stays = on_bridge("exec sleep 1000000");
    let goes = on_bridge("until [ -e /go ]; do sleep 0.01; done; exit 9");
    bed.run("stays", stays).await;
    let goes = bed.run("goes", goes).await;
    let before = bed.inspect("stays").await.unwrap();
    bed.end_daemon(signal).await;
    let pid = std::fs::read(bed.directory(&goes).join("container.json")).unwrap();
    let pid: serde_json::Value = serde_json::from_slice(&pid).unwrap();
    let pid = u32::try_from(pid["state"]["pid"].as_u64().unwrap()).unwrap();
    bed.sh(&format!("touch {}/root/go", bed.directory(&goes).display())).unwrap();
    assert!(processes::ends_within(pid, gantry_tests::PATIENCE).await);
    bed.start_daemon().await;
    assert_eq!(bed.inspect("stays").await.unwrap(), before);
    assert_eq!(bed.wait("goes").await, 9);
    let address = &before.endpoints[0].address;
    let ping = || bed.sh(&format!("busybox ping -c 1 -W 1 {address}")).is_some();
    gantry_tests::eventually("it is still connected", ping).await;
    bed.stop("stays").await;
    bed.start("goes").await.unwrap();
    bed.stop("goes").await;
    bed.assert_clean().await;
}

#[tokio::test]
async fn containers_outlive_gantryd() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    bed.run("stays", bed.script("exec sleep 1000000")).await;
    let goes = bed.run("goes", bed.script("until [ -e /go ]; do sleep 0.01; done; exit 9")).await;
    let before = bed.inspect("stays").await.unwrap();
    bed.end_server(Signal::KILL).await;
    bed.sh(&format!("touch {}/root/go", bed.directory(&goes).display())).unwrap();
    bed.start_server().await;
    assert_eq!(bed.wait("goes").await, 9);
    assert_eq!(bed.inspect("stays").await.unwrap(), before);
    bed.stop("stays").await;
    bed.run("new", bed.script("true")).await;
    assert_eq!(bed.wait("new").await, 0);
    bed.assert_clean().await;
}

#[tokio::test]
async fn the_daemon_starts_what_its_policy_wants() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    for (name, mode, is_stopped) in [
        ("always", RestartMode::Always, true),
        ("unless-stopped", RestartMode::UnlessStopped, false),
        ("stopped", RestartMode::UnlessStopped, true),
        ("no", RestartMode::No, false),
    ] {
        let restart_policy = policy(mode, 0);
        bed.run(name, ContainerConfig { restart_policy, ..bed.script("exec sleep 1000000") }).await;
        if is_stopped {
            bed.stop(name).await;
        }
    }
    bed.end_daemon(Signal::KILL).await;
    let records = bed.path("lib/containers");
    let pids = bed.sh(&format!("cat {}/*/container.json", records.display()));
    for line in pids.unwrap().lines().filter(|line| line.contains("\"pid\":")) {
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        let pid: u32 = digits.parse().unwrap();
        if pid > 0 {
            processes::kill(pid);
            assert!(processes::ends_within(pid, gantry_tests::PATIENCE).await);
        }
    }
    bed.start_daemon().await;
    for name in ["always", "unless-stopped"] {
        does(&bed, name, ContainerStatus::Running).await;
    }
    for name in ["stopped", "no"] {
        does(&bed, name, ContainerStatus::Exited).await;
    }
    bed.stop("always").await;
    bed.stop("unless-stopped").await;
    bed.assert_clean().await;
}

/// Starts a container on a bridge, and returns the call when its network is set up, where it stays
/// until `go_on`.
async fn start_halfway(bed: &Bed) -> JoinHandle<Result<(), tonic::Status>> {
    let config = ContainerConfig { networking: bridge(&[]), ..bed.script("exec sleep 1000000") };
    bed.create("web", config).await;
    let hang = bed.path("hang");
    std::fs::write(&hang, "").unwrap();
    let (mut api, reference) = (bed.api(), "web".to_owned());
    let request = proto::StartContainerRequest { reference, ..Default::default() };
    let call = tokio::spawn(async move { api.start_container(request).await.map(drop) });
    gantry_tests::eventually("the network is set up", || !hang.exists()).await;
    call
}

fn go_on(bed: &Bed) {
    std::fs::write(bed.path("go"), "").unwrap();
}

#[tokio::test]
async fn a_daemon_that_dies_at_work_is_cleared_up_after() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    let call = start_halfway(&bed).await;
    assert!(bed.sh("ip -brief link").unwrap().lines().count() > 1, "there are interfaces");
    bed.end_daemon(Signal::KILL).await;
    call.await.unwrap().unwrap_err();
    go_on(&bed);
    bed.start_daemon().await;
    assert_eq!(bed.inspect("web").await.unwrap().endpoints, []);
    bed.assert_clean().await;
    bed.start("web").await.unwrap();
    bed.stop("web").await;
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_a_start() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let call = start_halfway(&bed).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go_on(&bed);
    does(&bed, "web", ContainerStatus::Running).await;
    bed.stop("web").await;
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_daemon_that_is_to_end_finishes_its_work() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    let call = start_halfway(&bed).await;
    let go = bed.path("go");
    let going = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::write(go, "").unwrap();
    });
    bed.end_daemon(Signal::TERM).await;
    going.await.unwrap();
    call.await.unwrap().unwrap();
    bed.start_daemon().await;
    assert_eq!(bed.inspect("web").await.unwrap().status(), ContainerStatus::Running);
    bed.stop("web").await;
    bed.assert_clean().await;
}

#[tokio::test]
async fn there_is_one_daemon_for_a_directory() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let output = bed.daemon_command("other.sock").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("as the only daemon"), "{error}");
    bed.run("web", bed.script("true")).await;
    assert_eq!(bed.wait("web").await, 0);
}
