//! The server as a service: in place of the one that a daemon of 2017 starts itself, and under a
//! service manager.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use Runtime::Runc;
use gantry_api::types::EventsRequest;
use gantry_tests::{
    Runtime, Server,
    events::BEGINNING,
    eventually, improves, patiently, processes, programs,
    runtime::wrapper,
    service::{connect, endpoint},
};
use rstest::rstest;
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Far less than the two minutes that a start may take, and more than a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

/// As a daemon of 2017 starts it, from a file of the old name, with its flags, and some of which
/// nobody has ever heard.
#[rstest]
#[tokio::test]
async fn under_its_old_name(#[values("docker-containerd", "containerd")] name: &str) {
    if improves("it is this itself") {
        return;
    }
    let links = tempfile::tempdir().unwrap();
    let binary = links.path().join(name);
    symlink(programs::server(), &binary).unwrap();
    let setup = Server::setup(Runc).binary(&binary).relative_paths().arguments(&[
        "--metrics-interval=0",
        "--start-timeout",
        "2m",
        "--shim",
        "containerd-shim",
        "--debug",
        "--pprof-address",
        "localhost:1",
        "--unheard-of",
        "--never-seen=1",
    ]);
    let Some(mut server) = setup.start().await else { return };
    // What is ignored is logged.
    server.logs("unheard-of").await;
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    // As `pgrep containerd-shim` counts: one per process, and not the server.
    for process in [&container.init, &exec] {
        let shim = process.shim().unwrap();
        assert_eq!(processes::comm(shim).unwrap(), "containerd-shim");
        assert!(processes::command(shim).unwrap().starts_with("containerd-shim"));
    }
    assert_ne!(processes::comm(server.pid()).unwrap(), "containerd-shim");

    server.kill().await;
    server.start_again().await;
    exec.kill().await;
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn the_name_of_the_shim_is_no_program_to_run() {
    if improves("its shim is a program of its own") {
        return;
    }
    let Some(server) = Server::setup(Runc).arguments(&["--shim", "/bin/false"]).start().await
    else {
        return;
    };
    let container = server.container("c").create().await.unwrap();
    assert_eq!(processes::comm(container.init.shim().unwrap()).unwrap(), "false");
    container.init.kill().await;
    server.finish().await;
}

/// Whatever goes on: containers, subscribers, a runtime at work.
#[rstest]
#[tokio::test]
async fn a_stop_is_quick_and_clean(#[values(Signal::TERM, Signal::INT)] signal: Signal) {
    if improves("it exits with status 1") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let request = EventsRequest { timestamp: Some(BEGINNING), ..<_>::default() };
    let mut subscriber =
        connect(&server.service.socket).events(request).await.unwrap().into_inner();
    patiently("an event", subscriber.message()).await.unwrap();
    let reached = server.work().join("reached");
    let script =
        format!("case $command in create|run) touch {}; sleep 1;; esac", reached.display());
    let slow = wrapper(server.work(), Runc, &script);
    let creating = server.container("slow").runtime(Runc).without_pipes();
    let creating = creating.request(|r| r.runtime = slow.to_str().unwrap().to_owned());
    let creating = tokio::spawn(creating.create());
    eventually("the runtime is called", || reached.exists()).await;

    let (status, time) = server.end(signal).await;
    assert_eq!(status.code(), Some(0));
    // The calls under way have 2 s, and the rest is for a busy machine.
    assert!(time < SOON, "{time:?}");
    assert!(processes::command(container.init.system_pid).is_some(), "containers live on");
    let created = creating.await.unwrap();

    server.start_again().await;
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    // The container whose start was under way exists if its caller got a success, else it is gone.
    match created {
        Ok(created) => assert_eq!(created.init.kill().await, 137),
        Err(_) => assert!(server.service.state("slow").await.is_err()),
    }
    server.finish().await;
}

#[tokio::test]
async fn a_socket_is_taken_over_from_the_dead_only() {
    if improves("it replaces any") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let socket = server.service.socket.clone();
    let other = tempfile::tempdir().unwrap();
    // Neither the socket nor the state directory of one that lives.
    for (socket, state) in [
        (socket.as_path(), other.path().join("state")),
        (&other.path().join("sock"), server.state_dir()),
    ] {
        let root = other.path().join("root");
        let output =
            run_server(&["-l", path(socket), "--state-dir", path(&state), "--root", path(&root)]);
        assert!(!output.status.success());
        let message = String::from_utf8_lossy(&output.stderr);
        let named = message.contains(path(socket)) || message.contains(path(&state));
        assert!(named && message.contains("another"), "{message}");
    }
    assert_eq!(container.state().await.unwrap().status, "running", "it goes on");
    server.kill().await;
    assert!(socket.exists(), "a killed server leaves its socket");
    server.start_again().await;
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    if improves("it replaces any") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("precious");
    fs::write(&file, "precious").unwrap();
    let state = work.path().join("state");
    let root = work.path().join("root");
    let output =
        run_server(&["-l", path(&file), "--state-dir", path(&state), "--root", path(&root)]);
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    if improves("its directory is open") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let socket = work.path().join("new/sock");
    let Some(server) = Server::setup(Runc).socket(&socket).start().await else { return };
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    let directory = fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o066, 0, "not to be listed or written by others");
    let state = fs::metadata(server.state_dir()).unwrap();
    assert_eq!(state.permissions().mode() & 0o066, 0);
    server.finish().await;
}

/// A daemon asks every 500 ms, waits 3 s, and starts the server anew at the third failure.
#[tokio::test]
async fn health_is_never_behind_other_work() {
    let Some(mut server) = Server::own(Runc).await else { return };
    let reached = server.work().join("reached");
    let script =
        format!("case $command in create|run) touch {}; sleep 1000;; esac", reached.display());
    let stuck = wrapper(server.work(), Runc, &script);
    let mut creating = Vec::new();
    for number in 0..10 {
        let container = server.container(&format!("stuck{number}")).runtime(Runc);
        let container = container.without_pipes();
        let container = container.request(|r| r.runtime = stuck.to_str().unwrap().to_owned());
        creating.push(tokio::spawn(container.create()));
    }
    eventually("the runtime is called", || reached.exists()).await;
    for service in ["", "types.API"] {
        if !service.is_empty() && improves("it knows itself by no name") {
            continue;
        }
        let begin = Instant::now();
        assert_eq!(health(&server, service).await, ServingStatus::Serving);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
    server.kill().await;
    server.start_again().await;
    assert_eq!(health(&server, "").await, ServingStatus::Serving);
    for creating in creating {
        creating.await.unwrap().unwrap_err();
    }
    if !improves("it forgets what it was at") {
        server.finish().await;
    }
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let channel: Channel = endpoint(&server.service.socket).connect_lazy();
    let request = HealthCheckRequest { service: service.to_owned() };
    let response = HealthClient::new(channel).check(request).await.unwrap();
    response.into_inner().status()
}

#[tokio::test]
async fn a_service_manager_is_notified() {
    if improves("it knows no service manager") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let notify = work.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(gantry_tests::PATIENCE)).unwrap();
    let setup = Server::setup(Runc).variable("NOTIFY_SOCKET", path(&notify));
    let Some(mut server) = setup.start().await else { return };
    let receive = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(receive().contains("READY=1"));
    // Neither shims nor containers are to speak for it.
    let container = server.container("c").args(&["env"]).create().await;
    let mut container = container.unwrap();
    assert!(!container.init.pipes().stdout_text().await.contains("NOTIFY_SOCKET"));
    container.init.exit().await;
    server.end(Signal::TERM).await;
    assert!(receive().contains("STOPPING=1"));
    server.start_again().await;
    server.finish().await;
}

#[tokio::test]
async fn a_socket_may_be_passed() {
    if improves("it knows no service manager") {
        return;
    }
    let Ok(activate) = which("systemd-socket-activate") else {
        return gantry_tests::skip("systemd-socket-activate is not installed");
    };
    let work = tempfile::tempdir().unwrap();
    let socket = work.path().join("passed");
    let state = work.path().join("state");
    let elsewhere = work.path().join("elsewhere");
    let mut activator = Command::new(activate)
        .args(["-l", path(&socket)])
        .arg(programs::server())
        .args(["-l", path(&elsewhere.join("socket")), "--state-dir", path(&state)])
        .args(["--root", path(&work.path().join("root"))])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // A socket is there before anybody listens on it.
    let connect = || UnixStream::connect(&socket).is_ok();
    eventually("somebody listens", connect).await;
    let channel = endpoint(&socket).connect_lazy();
    let mut client = HealthClient::new(channel);
    let answer = patiently("health", client.check(HealthCheckRequest::default())).await;
    processes::signal(activator.id(), Signal::TERM);
    let status = activator.wait().unwrap();
    assert_eq!(answer.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(status.code(), Some(0));
    assert!(socket.exists(), "it is the service manager's to remove");
    assert!(!elsewhere.exists(), "nothing is made where nobody listens");
}

#[tokio::test]
async fn settings_are_read_from_a_file() {
    if improves("it reads no file") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("gantryd.toml");
    fs::write(&file, "retain_count = 4\nshim_name = \"from-a-file\"\n").unwrap();
    let setup = Server::setup(Runc).arguments(&["--config", path(&file)]);
    let Some(server) = setup.start().await else { return };
    for id in ["a", "b", "c"] {
        let container = server.container(id).create().await.unwrap();
        assert_eq!(processes::comm(container.init.shim().unwrap()).unwrap(), "from-a-file");
        container.init.kill().await;
    }
    let kept = gantry_tests::events::stored(&mut server.service.api(), BEGINNING).await;
    assert_eq!(kept.len(), 4);
    server.finish().await;
}

#[test]
fn configuration_errors_are_reported_and_end_it() {
    if improves("it has other flags") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("gantryd.toml");
    fs::write(&file, "no_such_key = 1\n").unwrap();
    for (arguments, words) in [
        (vec!["--no-such-flag"], "no-such-flag"),
        (vec!["--start-timeout", "soon"], "soon"),
        (vec!["--retain-count", "many"], "many"),
        (vec!["-l", "tcp://127.0.0.1:1"], "tcp"),
        (vec!["--config", "/no/such/file"], "/no/such/file"),
        (vec!["--config", path(&file)], "no_such_key"),
    ] {
        let output = run_server(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    for flag in ["--version", "--help"] {
        let output = run_server(&[flag]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{flag}");
    }
}

/// Runs a server that is to end by itself.
fn run_server(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("120").arg(programs::server()).args(arguments);
    command.output().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn which(name: &str) -> Result<String, ()> {
    let output = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    if found.is_empty() { Err(()) } else { Ok(found) }
}
