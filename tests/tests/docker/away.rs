//! The server is killed, or stopped, and restarted under a dockerd that keeps running. dockerd subscribes to events
//! again and lists nothing, so exits of the meantime must reach it as events.

use std::time::{Duration, Instant};

use gantry_tests::{PATIENCE, processes};
use rustix::process::Signal;

use crate::{
    dockerd::{Client, Docker},
    host::eventually,
    peer::Peer,
};

/// How soon after the server is back an exit must be seen.
const SOON: Duration = Duration::from_secs(5);

/// How often, see `GANTRY_TEST_AWAY` in main.rs.
fn repetitions() -> u32 {
    match std::env::var("GANTRY_TEST_AWAY") {
        Ok(count) => count.parse().expect("GANTRY_TEST_AWAY: a number"),
        Err(_) => 10,
    }
}

#[tokio::test]
async fn what_ends_while_the_server_is_away_is_seen_soon() {
    if Peer::chosen() == Peer::Containerd {
        gantry_tests::skip("an improvement: containerd loses exits that happen while it is away");
        return;
    }
    let mut docker = Docker::start().await;
    docker.run_service("stays", &[]).await;
    let pid = docker.pid("stays");
    docker.ok(&["exec", "--detach", "stays", "sleep", "7000000"]);
    let lasting = pid_of(&docker, "sleep 7000000").await;
    for round in 1..=repetitions() {
        let [ends, killed] = ["ends", "killed"].map(|name| format!("{name}-{round}"));
        docker.run_service(&ends, &[]).await;
        docker.run_service(&killed, &["--rm"]).await;
        let (sleep, mut exec) = sleeping_exec(&docker, round).await;
        let pids = [docker.pid(&ends), docker.pid(&killed), sleep];
        let signal = if round % 2 == 0 { Signal::TERM } else { Signal::KILL };
        docker.host.end_server(signal).await;
        processes::signal(pids[0], Signal::TERM);
        processes::kill(pids[1]);
        processes::kill(pids[2]);
        for pid in pids {
            assert!(processes::ends_within(pid, PATIENCE).await);
        }
        docker.host.start_server().await;
        let back = Instant::now();
        assert_eq!(docker.ok(&["wait", &ends]), "5");
        let code = exec.code_within(PATIENCE).await;
        eventually("docker ps agrees", || docker.running() == ["stays"]).await;
        let took = back.elapsed();
        assert!(took < SOON, "round {round}, {signal:?}: seen only after {took:?}");
        assert_eq!(code, Some(137), "the exec's client: {}", exec.output());
        assert_eq!(docker.pid("stays"), pid);
        assert_eq!(docker.ok(&["exec", "stays", "echo", "well"]), "well");
        docker.ok(&["rm", &ends]);
    }
    // The one that was there from the beginning is still known, and seen to end.
    let execs = "{{len .ExecIDs}}";
    assert_eq!(docker.inspect("stays", execs), "1");
    processes::kill(lasting);
    docker.becomes("stays", execs, "0").await;
    docker.ok(&["stop", "stays"]);
    assert_eq!(docker.exit_code("stays"), "exited 5");
    docker.finish().await;
}

/// An exec that sleeps for ever, in the container "stays": its pid, and its client.
async fn sleeping_exec(docker: &Docker, number: u32) -> (u32, Client) {
    let command = format!("sleep {}", 7_000_000 + number);
    let exec = [&["exec", "stays"], &command.split(' ').collect::<Vec<_>>()[..]].concat();
    let client = docker.in_background(&exec, &format!("exec-{number}"));
    (pid_of(docker, &command).await, client)
}

/// The pid of an exec, which has these arguments only a moment after it was started.
async fn pid_of(docker: &Docker, command: &str) -> u32 {
    let mut pid = None;
    eventually("the exec runs", || {
        pid = docker.host.pid_of(command);
        pid.is_some()
    })
    .await;
    pid.expect("a pid")
}
