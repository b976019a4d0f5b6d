//! The same with crun instead of runc, in short.

use crate::{
    dockerd::{Docker, IMAGE},
    host,
};

#[tokio::test]
async fn containers_are_run_by_crun() {
    let docker = Docker::start_on_crun().await;
    let output =
        docker.output(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(host::code(&output), 7);
    assert_eq!(
        (host::text(output.stdout), host::text(output.stderr)),
        ("out\n".into(), "err\n".into())
    );

    docker.run_service("service", &[]).await;
    assert_eq!(docker.inspect("service", "{{.HostConfig.Runtime}}"), "crun");
    // What crun keeps of a container, below a directory of dockerd's choice.
    let find = format!(
        "find /run {} -path '*/{}/status'",
        docker.host.text("exec"),
        docker.inspect("service", "{{.Id}}")
    );
    assert_ne!(docker.host.sh(&find), Some(String::new()), "it is not crun's");
    assert_eq!(docker.ok(&["exec", "service", "echo", "inside"]), "inside");
    let failed = docker.output(&["exec", "service", "sh", "-c", "exit 9"]);
    assert_eq!(host::code(&failed), 9);
    let (code, text) = docker.fails(&["exec", "service", "nosuch"]);
    assert!(code == 127 || code == 126, "{code}: {text}");
    docker.ok(&["stop", "service"]);
    assert_eq!(docker.exit_code("service"), "exited 5");

    docker.run("eats", &["--memory=16m"], "exec tail /dev/zero");
    assert_eq!(docker.ok(&["wait", "eats"]), "137");
    assert_eq!(docker.inspect("eats", "{{.State.OOMKilled}}"), "true");
    let (code, text) = docker.fails(&["run", "--name", "missing", IMAGE, "nosuch"]);
    assert_eq!(code, 127, "{text}");
    docker.finish().await;
}
