//! Shims and servers of two builds work with each other, in both directions.

use std::fs;

use gantry_tests::{Runtime, Server, programs, runtime::write_script};
use tempfile::TempDir;

use crate::variants::{self, Variant};

/// A server whose program can be exchanged between two starts.
struct Exchangeable {
    directory: TempDir,
}

impl Exchangeable {
    fn new(first: &Variant) -> Self {
        let exchangeable = Self { directory: tempfile::tempdir().unwrap() };
        exchangeable.exchange(first);
        exchangeable
    }

    fn exchange(&self, variant: &Variant) {
        let Variant { server, shim } = variant;
        let (server, shim) = (server.display(), shim.display());
        let text = format!("#!/bin/sh\nexec {server} \"$@\" --shim-binary {shim}\n");
        write_script(&self.directory.path().join("gantryd"), &text);
    }
}

/// The build under test.
fn this() -> Variant {
    let server = programs::server();
    let shim = programs::shim().unwrap_or_else(|| server.with_file_name("gantry-shim"));
    Variant { server, shim }
}

/// Everything that a shim of the first build is asked by a server of the second, and back again.
async fn upgrade(first: &Variant, second: &Variant) {
    let program = Exchangeable::new(first);
    let setup = Server::setup(Runtime::Runc).binary(&program.directory.path().join("gantryd"));
    let Some(mut server) = setup.start().await else { return };
    let mut container = server.container("c").sh("cat; exit 7").create().await.unwrap();
    let mut exec = container.exec("e").sh("read line; exit 8").start().await.unwrap();
    let mut terminal = server.container("t").terminal().args(&["sh"]).create().await.unwrap();
    let paused = server.container("p").create().await.unwrap();
    paused.pause().await;
    let states = [&container, &terminal, &paused].map(|container| container.state());
    let before: Vec<_> = futures(states).await;

    server.kill().await;
    exec.pipes().write(b"now\n").await;
    assert!(exec.ends_within(gantry_tests::PATIENCE).await);
    program.exchange(second);
    server.start_again().await;
    assert_eq!(exec.exit().await, 8, "ended without a server");
    let states = [&container, &terminal, &paused].map(|container| container.state());
    let mut after: Vec<_> = futures(states).await;
    assert_eq!(after[0].processes.len(), 1);
    after[0].clone_from(&before[0]);
    assert_eq!(after, before, "as before");

    terminal.init.resize(91, 34).await.unwrap();
    terminal.init.pipes().write(b"stty size; exit 4\n").await;
    terminal.init.pipes().stdout_until("34 91").await;
    assert_eq!(terminal.init.exit().await, 4);
    paused.resume().await;
    let newer = container.exec("newer").sh("exit 9").start().await.unwrap();
    assert_eq!(newer.exit().await, 9);
    let stays = container.exec("stays").args(&["sleep", "1000000"]).start().await.unwrap();

    server.kill().await;
    program.exchange(first);
    server.start_again().await;
    assert_eq!(stays.kill().await, 137, "started by a newer one");
    container.init.pipes().write(b"last words").await;
    container.init.pipes().stdin = None;
    container.init.close_stdin().await.unwrap();
    assert_eq!(container.init.pipes().stdout_text().await, "last words");
    assert_eq!(container.init.exit().await, 7);
    assert_eq!(paused.init.kill().await, 137);
    server.finish().await;
}

async fn futures<T, E: std::fmt::Debug>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Vec<T> {
    let mut results = Vec::new();
    for future in futures {
        results.push(future.await.unwrap());
    }
    results
}

#[tokio::test]
async fn shims_of_this_version_and_a_server_of_the_next() {
    let Some(next) = variants::find("next") else { return };
    upgrade(&this(), &next).await;
}

#[tokio::test]
async fn shims_of_the_next_version_and_a_server_of_this() {
    let Some(next) = variants::find("next") else { return };
    upgrade(&next, &this()).await;
}

/// With a build of an earlier commit: `GANTRY_OLD_BIN` is the directory of its programs.
#[tokio::test]
async fn shims_of_an_old_build_and_a_server_of_this() {
    let Some(directory) = std::env::var_os("GANTRY_OLD_BIN") else { return };
    let old = Variant::in_directory(directory.as_ref()).expect("gantryd and gantry-shim");
    assert!(fs::metadata(&old.server).is_ok());
    upgrade(&old, &this()).await;
    upgrade(&this(), &old).await;
}
