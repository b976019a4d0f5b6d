//! A runtime that is killed after it has started a task, and before it has noted that: it then takes the task for one
//! that is created, and would wait for ever for another start.

use gantry_api::containerd::{runc::Options, task_types::Status as State, to_any};
use gantry_tests::{Runtime, Server, eventually, patiently, processes, runtime::wrapper};
use rstest::rstest;
use tonic::Code;

use super::{NewTask, finish};
use crate::{Bed, assert_refused};

/// Options with a runtime that has forgotten that it has started a task, and does this then.
fn options(bed: &Bed, runtime: Runtime, end: &str) -> Option<prost_types::Any> {
    let script = format!(
        r#"
case $command in start)
    root= last=
    for word; do
        [ "$last" = --root ] && root=$word
        last=$word
    done
    {runtime} "$@" || exit
    mkfifo "$root/$last/exec.fifo"
    : > {done}
    {end} ;;
esac"#,
        runtime = runtime.name(),
        done = bed.server.work().join("done").display(),
    );
    let runtime = wrapper(bed.server.work(), runtime, &script);
    let binary_name = runtime.to_str().expect("UTF-8").to_owned();
    Some(to_any(&Options { binary_name, ..Options::default() }))
}

#[rstest]
#[tokio::test]
async fn a_start_whose_runtime_was_killed_is_known(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let mut new = NewTask::new(&bed, "ns", "c").sh("exit 7");
    new.request.options = options(&bed, runtime, "kill -9 $$");
    let task = new.create().await.unwrap();
    // The process may not execute its program at once.
    if task.start("").await.is_err() {
        let again = patiently("Start", task.start("")).await;
        assert!(again.is_ok() || task.state("").await == State::Stopped, "{again:?}");
    }
    assert_eq!(patiently("Wait", task.wait("")).await.unwrap().exit_status, 7);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[rstest]
#[tokio::test]
async fn a_start_whose_server_was_killed_is_known(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(mut bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let kept = {
        let mut new = NewTask::new(&bed, "ns", "c");
        new.request.options = options(&bed, runtime, "exec sleep 1000000");
        let task = new.create().await.unwrap();
        let mut tasks = bed.tasks();
        let start = gantry_api::containerd::tasks::StartRequest {
            container_id: "c".to_owned(),
            exec_id: String::new(),
        };
        let starting = tokio::spawn(async move { tasks.start(crate::of("ns", start)).await });
        let done = bed.server.work().join("done");
        let runs = || processes::command(task.pid).is_some_and(|command| command.contains("sleep"));
        eventually("the runtime has started it", || done.exists() && runs()).await;
        let kept = task.kept();
        bed.server.kill().await;
        starting.await.unwrap().unwrap_err();
        kept
    };
    bed.server.start_again().await;
    let task = kept.again(&bed);
    assert_refused(
        patiently("Start", task.start("")).await,
        Code::Unknown,
        "cannot start a running process: unknown",
    );
    assert_eq!(task.state("").await, State::Running);
    task.kill("", 9).await.unwrap();
    assert_eq!(patiently("Wait", task.wait("")).await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    finish(bed).await;
}
