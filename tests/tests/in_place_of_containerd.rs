//! The server under containerd's name: its flags, its file, and what it prints.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use gantry_tests::{eventually, improves, patiently, processes, programs, service::endpoint};
use rustix::process::Signal;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// A link to the server, called containerd.
fn containerd(links: &Path) -> PathBuf {
    let link = links.join("containerd");
    symlink(programs::server(), &link).unwrap();
    link
}

/// One that serves, killed at the end.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn is_serving(socket: &Path) -> bool {
    let channel = endpoint(socket).connect_lazy();
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// As dockerd does that starts its own: a file, and a level by flag.
#[tokio::test]
async fn it_reads_the_file_that_a_daemon_writes() {
    if improves("it is this itself") {
        return;
    }
    let work = tempfile::Builder::new().prefix("gantry-test-").tempdir().unwrap();
    let place = |name: &str| work.path().join(name);
    let text = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"cri\"]\n\n\
         [grpc]\n  address = {socket:?}\n  uid = 0\n  gid = 12345\n\
         [debug]\n  address = \"\"\n  level = \"error\"\n\
         [plugins]\n  [plugins.linux]\n    shim_debug = true\n",
        root = place("root"),
        state = place("state"),
        socket = place("docker/sock"),
    );
    fs::write(place("containerd.toml"), text).unwrap();
    let log = fs::File::create(place("log")).unwrap();
    let child = Command::new(containerd(work.path()))
        .arg("--config")
        .arg(place("containerd.toml"))
        .args(["--log-level", "info"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut served = Served(child);
    let socket = place("docker/sock");
    eventually("there is a socket", || socket.exists()).await;
    patiently("it serves", async {
        while !is_serving(&socket).await {
            let ended = served.0.try_wait().unwrap();
            assert!(ended.is_none(), "{:?}", fs::read_to_string(place("log")));
        }
    })
    .await;
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (0, 12345, 0o660));
    let directory = fs::metadata(place("docker")).unwrap().permissions().mode() & 0o777;
    assert_eq!(directory, 0o711, "the group gets there");
    assert!(place("state").is_dir());
    let log = fs::read_to_string(place("log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("plugins")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("disabled_plugins, plugins"), "{log}");
    processes::signal(served.0.id(), Signal::TERM);
    assert_eq!(served.0.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn it_prints_what_containerd_does() {
    if improves("it is this itself") {
        return;
    }
    let links = tempfile::tempdir().unwrap();
    let containerd = containerd(links.path());
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new("timeout");
        command.arg("60").arg(&containerd).args(arguments).output().unwrap()
    };
    let printed = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for flag in ["--version", "-v"] {
        assert!(printed(&[flag]).starts_with("containerd github.com/containerd/containerd 2.0."));
    }
    let file = links.path().join("config.toml");
    fs::write(&file, printed(&["config", "default"])).unwrap();
    let file = file.to_str().unwrap();
    let dumped = printed(&["-c", file, "-a", "/run/other.sock", "config", "dump"]);
    let line = "address = \"/run/other.sock\"";
    assert!(dumped.contains(line) && dumped.contains("root = \"/var/lib/containerd\""), "{dumped}");
    // Whoever calls it waits for its end.
    for arguments in [&["publish"][..], &["config"], &["config", "migrate"], &["hook", "x"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("no sub-command"), "{message}");
    }
}

/// As clients that give containers a GPU have it: `ctr run --gpus` of containerd 1.6.
#[test]
fn it_is_a_hook() {
    if improves("it has none") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let spec = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"}}"#;
    fs::write(work.path().join("config.json"), spec).unwrap();
    let bundle = work.path().to_str().unwrap();
    let state = format!(r#"{{"id":"c","pid":17,"status":"created","bundle":{bundle:?}}}"#);
    let program = containerd(work.path());
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command.args(["oci-hook", "--", "/bin/sh", "-c"]).args(arguments).env("E", "{{id}}");
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(state.as_bytes()).unwrap();
        drop(write);
        command.stdin(read).output().unwrap()
    };
    let output = run(&["echo $0 $E; exit 3", "{{pid}}:{{rootfs}}"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("17:{bundle}/rootfs c\n"));
    let output = run(&["echo", "{{foo}}"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("\"foo\""));
}
