//! `docker exec`.

use std::time::Duration;

use crate::dockerd::{Docker, IMAGE};

#[tokio::test]
async fn exec_prints_and_ends_with_the_exit_code() {
    let docker = Docker::start().await;
    docker.run_service("service", &["--env", "FROM=run"]).await;
    let exec = |words: &[&str]| docker.output(&[&["exec", "service"], words].concat());
    let script = "echo out $FROM; echo err >&2; exit 9";
    let output = exec(&["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out run\n"[..], &b"err\n"[..]));
    assert_eq!(exec(&["true"]).status.code(), Some(0));
    assert_eq!(exec(&["sh", "-c", "nosuch"]).status.code(), Some(127));
    // Programs that cannot be started: dockerd 20.10 has exit code 126 for all of these.
    for (program, today, says) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "no such file or directory"),
        ("/etc", 126, "permission denied"),
    ] {
        let output = exec(&[program]);
        let code = output.status.code();
        assert!(code == Some(126) || code == Some(today), "{output:?}");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(text.contains("OCI runtime exec failed") && text.contains(says), "{text}");
    }
    let options = ["exec", "--workdir", "/tmp", "--user", "7:8", "--env", "MORE=x", "service"];
    let shown = docker.ok(&[&options[..], &["sh", "-c", "pwd; id -u; id -g; echo $MORE"]].concat());
    assert_eq!(shown, "/tmp\n7\n8\nx");
    assert_eq!(docker.running(), ["service"], "failed ones leave it alone");
    docker.finish().await;
}

#[tokio::test]
async fn an_exec_ends_with_its_container() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    let script = "echo running; sleep 1000000";
    let mut exec = docker.in_background(&["exec", "service", "sh", "-c", script], "exec.log");
    exec.prints("running").await;
    docker.ok(&["kill", "service"]);
    assert_eq!(exec.code_within(Duration::from_secs(30)).await, Some(137));
    let (_, text) = docker.fails(&["exec", "service", "true"]);
    assert!(text.contains("is not running"), "{text}");
    docker.finish().await;
}

#[tokio::test]
async fn a_detached_exec_is_seen_to_end() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    docker.ok(&[
        "exec",
        "--detach",
        "service",
        "sh",
        "-c",
        "until [ -e /end ]; do sleep 0.05; done",
    ]);
    let execs = "{{len .ExecIDs}}";
    assert_eq!(docker.inspect("service", execs), "1");
    docker.ok(&["exec", "service", "touch", "/end"]);
    docker.becomes("service", execs, "0").await;
    docker.finish().await;
}

#[tokio::test]
async fn a_health_check_decides_what_is_healthy() {
    let docker = Docker::start().await;
    let check = [
        "--health-cmd=test -e /healthy",
        "--health-interval=100ms",
        "--health-retries=2",
        "--health-timeout=60s",
    ];
    docker.run_service("service", &check).await;
    let health = "{{.State.Health.Status}}";
    docker.becomes("service", health, "unhealthy").await;
    docker.ok(&["exec", "service", "touch", "/healthy"]);
    docker.becomes("service", health, "healthy").await;
    docker.finish().await;
}

#[tokio::test]
async fn many_execs_at_once_have_their_own_output_and_code() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    let mut clients: Vec<_> = (1..=12)
        .map(|n| {
            let script = format!("echo number {n}; exit {n}");
            let arguments = ["exec", "service", "sh", "-c", &script];
            (n, docker.in_background(&arguments, &format!("exec-{n}")))
        })
        .collect();
    for (n, client) in &mut clients {
        assert_eq!(
            client.code_within(gantry_tests::PATIENCE).await,
            Some(*n),
            "{}",
            client.output()
        );
        assert_eq!(client.output(), format!("number {n}\n"));
    }
    assert_eq!(docker.inspect("service", "{{.Config.Image}}"), IMAGE);
    docker.finish().await;
}
