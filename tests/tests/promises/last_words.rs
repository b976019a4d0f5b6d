//! If a runtime fails before it writes a log, the error has what it printed.

use std::{fs, path::Path};

use Runtime::{Crun, Runc};
use gantry_tests::{
    Runtime, Server, improves, patiently, pipes::PipePaths, runtime::wrapper, server::Setup,
    status::assert_error,
};
use rstest::rstest;
use tokio::io::AsyncReadExt;
use tonic::Code;

/// As the dynamic loader says it.
const LOADER: &str = "error while loading shared libraries: libx.so.1: cannot open";

/// A server whose runtime says something on stderr, and fails, when it is to start a process.
fn setup(runtime: Runtime, directory: &Path, script: &str) -> Setup {
    let script = format!("case $command in run|create|exec) {script};; esac");
    Server::setup(runtime).runtime_path(&wrapper(directory, runtime, &script))
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

#[rstest]
#[tokio::test]
async fn an_error_has_words_from_a_pipe_that_nobody_reads(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let setup = setup(runtime, directory.path(), &format!("echo runtime: {LOADER} >&2; exit 127"));
    let Some(server) = setup.start().await else { return };
    let paths = PipePaths::make(directory.path(), "init");
    let mut pipes = paths.clone().open();
    let container = server.container("c").without_pipes();
    let result = container.request(|request| request.stderr = text(&paths.stderr)).create().await;
    assert_error(result, Code::FailedPrecondition, &["exit status 127", LOADER]);
    // They are the caller's as well.
    let mut read = [0; 256];
    let stderr = pipes.stderr.as_mut().expect("a pipe");
    let length = patiently("the words", stderr.read(&mut read)).await.expect("read stderr");
    assert_eq!(String::from_utf8_lossy(&read[..length]), format!("runtime: {LOADER}\n"));
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_error_has_words_from_a_file(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let setup = setup(runtime, directory.path(), &format!("echo {LOADER} >&2; exit 127"));
    let Some(server) = setup.start().await else { return };
    let path = directory.path().join("stderr");
    fs::write(&path, "of before\n").expect("write a file");
    let container = server.container("c").without_pipes();
    let result = container.request(|request| request.stderr = text(&path)).create().await;
    assert_error(result, Code::FailedPrecondition, &["exit status 127", LOADER]);
    assert_eq!(fs::read_to_string(&path).expect("a file"), format!("of before\n{LOADER}\n"));
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_error_has_words_with_a_terminal(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let words = format!("echo {LOADER} >&2; exit 127");
    // What never ends is cut, and no reason to wait.
    let endless = "yes >&2 || exit 3".to_owned();
    for (script, phrases) in
        [(words, ["exit status 127", LOADER]), (endless, ["exit status 3", "y"])]
    {
        let setup = setup(runtime, directory.path(), &script);
        let Some(server) = setup.start().await else { return };
        let result = server.container("c").terminal().create().await;
        assert_error(result, Code::FailedPrecondition, &phrases);
        server.finish().await;
    }
}

#[rstest]
#[tokio::test]
async fn an_error_of_an_exec_has_words_with_a_terminal(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!("[ $command != exec ] || {{ echo {LOADER} >&2; exit 127; }}");
    let Some(server) = setup(runtime, directory.path(), &script).start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let result = container.exec("e").terminal(None).sh("true").start().await;
    assert_error(result, Code::FailedPrecondition, &["exit status 127", LOADER]);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_error_has_words_of_a_runtime_that_can_do_nothing(
    #[values(Runc, Crun)] runtime: Runtime,
) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = wrapper(directory.path(), runtime, &format!("echo {LOADER} >&2; exit 127"));
    let Some(server) = Server::own(runtime).await else { return };
    // Nobody can look into /dev/null.
    let container = server.container("c").without_pipes();
    let result = container.request(|request| request.runtime = text(&program)).create().await;
    assert_error(result, Code::FailedPrecondition, &["exit status 127", "version", LOADER]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn without_the_output_the_error_says_where_it_went(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let setup = setup(runtime, directory.path(), &format!("echo {LOADER} >&2; exit 3"));
    let Some(server) = setup.start().await else { return };
    let result = server.container("c").without_pipes().create().await;
    assert_error(result, Code::FailedPrecondition, &["exit status 3", "went to the stderr"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_crash_for_want_of_threads_is_known_and_a_programs_words_mean_nothing(
    #[values(
        ("runtime/cgo: pthread_create failed: Resource temporarily unavailable", Code::ResourceExhausted),
        ("container with given ID already exists", Code::FailedPrecondition)
    )]
    (words, code): (&str, Code),
) {
    if improves("the original reports the exit status only") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let setup = setup(Runc, directory.path(), &format!("echo '{words}' >&2; exit 2"));
    let Some(server) = setup.start().await else { return };
    let result = server.container("c").terminal().create().await;
    assert_error(result, code, &["exit status 2", words]);
    server.finish().await;
}
