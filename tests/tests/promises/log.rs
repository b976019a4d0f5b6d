//! What becomes of the log changes nothing else: not a call, not an exit, not the server's end.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use Runtime::Runc;
use gantry_tests::{Runtime, Server, eventually, improves, programs};
use rstest::rstest;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::Signal,
};

/// The server, with its stderr at `stderr`.
fn logging_to(directory: &Path, stderr: &Path) -> PathBuf {
    let script = format!("exec \"$gantryd\" \"$@\" 2>'{}'", stderr.display());
    programs::wrapped_server(directory, &script)
}

/// A named pipe, and an end of it to read from.
fn pipe(directory: &Path) -> (PathBuf, OwnedFd) {
    let path = directory.join("log");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    (path, reader)
}

/// A whole life, from create to SIGTERM.
async fn live(mut server: Server) {
    for id in ["a", "b"] {
        let mut container =
            server.container(id).args(&["sh", "-c", "echo here; exit 3"]).create().await.unwrap();
        assert_eq!(container.init.exit().await, 3);
        assert_eq!(container.init.pipes().stdout_text().await, "here\n");
        server.service.state(id).await.unwrap_err();
    }
    let (status, _) = server.end(Signal::TERM).await;
    assert_eq!(status.code(), Some(0));
    server.start_again().await;
    server.finish().await;
}

#[tokio::test]
async fn a_log_whose_reader_is_gone() {
    if improves("its log may end it") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let (path, reader) = pipe(work.path());
    let setup = Server::setup(Runc).binary(&logging_to(work.path(), &path));
    let Some(mut server) = setup.start().await else { return };
    drop(reader);
    let container = server.container("c").args(&["sleep", "1000"]).create().await.unwrap();
    server.service.state("unknown").await.unwrap_err();
    assert_eq!(container.init.kill().await, 137);
    let (status, _) = server.end(Signal::TERM).await;
    assert_eq!(status.code(), Some(0));
    // To open a pipe that nobody reads would wait.
    let reader = open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    server.start_again().await;
    drop(reader);
    server.finish().await;
}

/// At a level at which the pipe is full at once.
#[tokio::test]
async fn a_log_that_nobody_reads() {
    if improves("its log may stop it") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let (path, reader) = pipe(work.path());
    let setup = Server::setup(Runc).binary(&logging_to(work.path(), &path));
    let Some(server) = setup.arguments(&["--log-level", "trace"]).start().await else { return };
    let mut api = server.service.api();
    // A pipe has 64 KiB, and a call at this level is several lines.
    for _ in 0..300 {
        api.state(gantry_api::types::StateRequest::default()).await.unwrap();
    }
    let waiting = || rustix::io::ioctl_fionread(&reader).unwrap();
    eventually("the pipe is full", || waiting() > 16 << 10).await;
    live(server).await;
}

#[rstest]
#[tokio::test]
async fn a_log_on_a_full_disk(#[values("text", "json")] format: &str) {
    if improves("it is not asked") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let setup = Server::setup(Runc).binary(&logging_to(work.path(), Path::new("/dev/full")));
    let Some(server) = setup.arguments(&["--log-format", format]).start().await else { return };
    live(server).await;
}

/// A version or a help text that cannot be printed is no panic.
#[test]
fn output_that_cannot_be_printed_is_no_panic() {
    if improves("it is not asked") {
        return;
    }
    for flag in ["--version", "--help", "--no-such-flag"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(programs::server());
        command.arg(flag).stdout(full.try_clone().unwrap()).stderr(full);
        let code = command.status().unwrap().code();
        assert!(matches!(code, Some(1 | 2)), "{flag}: {code:?}");
    }
}

#[tokio::test]
async fn a_fatal_error_is_logged_once() {
    if improves("it has a log of its own") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let socket = server.service.socket.to_str().unwrap();
    let state = server.state_dir().with_file_name("other");
    for level in ["info", "off"] {
        let mut command = std::process::Command::new(programs::server());
        command.args(["-l", socket, "--log-level", level, "--state-dir"]).arg(&state);
        command.arg("--root").arg(state.with_file_name("other-root"));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.matches(socket).count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    server.finish().await;
}

/// Nothing that a caller, a runtime or a file says makes a line of its own.
#[tokio::test]
async fn nobody_else_writes_lines() {
    if improves("it escapes other things") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let Some(server) = Server::own(Runc).await else { return };
    let forged = "x\n2026-01-01T00:00:00Z ERROR forged";
    let create = server.container("c").request(|request| {
        request.bundle_path = format!("{}/{forged}\u{1b}[31m", work.path().display());
    });
    create.create().await.unwrap_err();
    eventually("it is logged", || server.log().contains("forged")).await;
    let log = server.log();
    let targets = [" gantry", " audit: "];
    let own =
        |line: &str| targets.iter().any(|target| line.contains(target)) && !line.contains('\u{1b}');
    assert!(log.lines().all(own), "{log}");
    server.finish().await;
}
