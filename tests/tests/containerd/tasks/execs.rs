//! Processes that are added to a task.

use gantry_api::containerd::{
    from_any, runc::ProcessDetails, task_types::Status as State, tasks::ListPidsRequest,
};
use gantry_tests::patiently;
use serde_json::json;
use tonic::Code;

use super::{NewTask, Task, finish, request};
use crate::{Bed, any, assert_refused};

/// The exec ids beside the pids of a task.
async fn pids(bed: &Bed, task: &Task<'_>) -> Vec<(u32, Option<String>)> {
    let asked = ListPidsRequest { container_id: task.id.clone() };
    let listed = bed.tasks().list_pids(request(&task.namespace, asked)).await.unwrap();
    let exec = |info| from_any::<ProcessDetails>(&info).unwrap().expect("ProcessDetails").exec_id;
    let infos = listed.into_inner().processes.into_iter();
    infos.map(|process| (process.pid, process.info.map(exec))).collect()
}

async fn running<'a>(bed: &'a Bed, id: &str) -> Task<'a> {
    let task = NewTask::new(bed, "ns", id).create().await.unwrap();
    task.start("").await.unwrap();
    task
}

#[tokio::test]
async fn an_exec_is_added_started_waited_for_and_deleted() {
    let Some(bed) = Bed::start().await else { return };
    let task = running(&bed, "c").await;
    for round in 0..2 {
        let mut pipes = task.exec("e", "echo hello; read line; exit 5").await.unwrap();
        let added = task.get("e").await.unwrap();
        assert_eq!((added.id.as_str(), added.pid, added.status()), ("e", 0, State::Created));
        assert_eq!(added.stdout, pipes.paths.stdout.to_str().unwrap());
        let waiting = tokio::spawn(task.waiting("e"));
        let pid = task.start("e").await.unwrap();
        pipes.stdout_until("hello").await;
        let seen = task.get("e").await.unwrap();
        assert_eq!((seen.pid, seen.status()), (pid, State::Running), "{round}");
        let found = pids(&bed, &task).await;
        assert!(found.contains(&(task.pid, None)), "{found:?}");
        assert!(found.contains(&(pid, Some("e".to_owned()))), "{found:?}");
        let running = "cannot delete a running process: unknown";
        assert_refused(task.delete_exec("e").await, Code::Unknown, running);
        let again = "cannot start a running process: unknown";
        assert_refused(task.start("e").await, Code::Unknown, again);
        pipes.write(b"\n").await;
        let exit = patiently("Wait", waiting).await.unwrap().unwrap();
        assert_eq!(exit.exit_status, 5);
        assert_eq!(task.wait("e").await.unwrap(), exit);
        let ended = task.get("e").await.unwrap();
        assert_eq!((ended.status(), ended.exit_status), (State::Stopped, 5));
        let finished = "process already finished: not found";
        assert_refused(task.kill("e", 9).await, Code::NotFound, finished);
        let again = "cannot start a stopped process: unknown";
        assert_refused(task.start("e").await, Code::Unknown, again);
        let deleted = task.delete_exec("e").await.unwrap();
        assert_eq!((deleted.id.as_str(), deleted.pid, deleted.exit_status), ("e", pid, 5));
        assert_eq!(deleted.exited_at, exit.exited_at);
        let gone = "process does not exist e: not found";
        assert_refused(task.delete_exec("e").await, Code::NotFound, gone);
        assert_refused(task.get("e").await.map(drop), Code::NotFound, gone);
        assert_refused(task.wait("e").await, Code::NotFound, gone);
    }
    task.end().await;
    finish(bed).await;
}

/// Clients ask about it then, and delete it.
#[tokio::test]
async fn an_exec_that_cannot_be_started_stays() {
    let Some(bed) = Bed::start().await else { return };
    let task = running(&bed, "c").await;
    task.exec_with("e", json!({ "args": ["no-such-program"] }), |_| {}).await.unwrap();
    let error = task.start("e").await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown, "{error:?}");
    let words = error.message();
    assert!(
        words.starts_with("OCI runtime exec failed: ") && words.ends_with(": unknown"),
        "{words}"
    );
    assert!(words.contains("executable file not found"), "{words}");
    let left = task.get("e").await.unwrap();
    assert_eq!((left.status(), left.pid), (State::Created, 0));
    let deleted = task.delete_exec("e").await.unwrap();
    assert_eq!((deleted.id.as_str(), deleted.pid, deleted.exit_status), ("e", 0, 0));
    assert_eq!(deleted.exited_at, None);
    // The end of the first process waits for no exec that never was.
    task.exec_with("f", json!({ "args": ["no-such-program"] }), |_| {}).await.unwrap();
    task.start("f").await.unwrap_err();
    task.kill("", 9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn an_exec_may_be_added_and_started_before_its_task_is() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let mut pipes = task.exec("early", "echo hello").await.unwrap();
    let created = "process not created: failed precondition";
    assert_refused(task.kill("early", 9).await, Code::FailedPrecondition, created);
    task.start("early").await.unwrap();
    assert_eq!(pipes.stdout_text().await, "hello\n");
    assert_eq!(task.wait("early").await.unwrap().exit_status, 0);
    assert_eq!(task.state("").await, State::Created);
    let mut pipes = task.exec("later", "read line; echo $line").await.unwrap();
    task.start("later").await.unwrap();
    task.start("").await.unwrap();
    pipes.write(b"hello\n").await;
    assert_eq!(pipes.stdout_text().await, "hello\n");
    assert_eq!(task.wait("later").await.unwrap().exit_status, 0);
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn an_exec_ends_with_its_task() {
    let Some(bed) = Bed::start().await else { return };
    let task = running(&bed, "c").await;
    task.exec("e", "sleep 1000").await.unwrap();
    task.start("e").await.unwrap();
    task.exec("unstarted", "true").await.unwrap();
    let exec = tokio::spawn(task.waiting("e"));
    task.kill("", 9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    assert!(exec.is_finished() || exec.await.is_ok(), "the exec's end comes first");
    assert_eq!(task.get("e").await.unwrap().exit_status, 137);
    let stopped = "container c init process is not running: failed precondition";
    assert_refused(task.start("unstarted").await, Code::FailedPrecondition, stopped);
    let stopped = "cannot exec in a stopped state: unknown";
    assert_refused(task.exec("late", "true").await.map(drop), Code::Unknown, stopped);
    // With all its processes, whether they were deleted or not.
    assert_eq!(task.delete().await.unwrap().exit_status, 137);
    assert_refused(task.get("e").await.map(drop), Code::NotFound, "task c not found");
    finish(bed).await;
}

#[tokio::test]
async fn a_wait_for_an_exec_that_is_deleted_unstarted_is_answered() {
    let Some(bed) = Bed::start().await else { return };
    let task = running(&bed, "c").await;
    task.exec("e", "true").await.unwrap();
    let waiting = tokio::spawn(task.waiting("e"));
    // Requests of one connection are read in turn.
    assert_eq!(task.state("e").await, State::Created);
    task.delete_exec("e").await.unwrap();
    let gone = "process does not exist e: not found";
    assert_refused(patiently("Wait", waiting).await.unwrap(), Code::NotFound, gone);
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn a_request_for_an_exec_is_checked() {
    let Some(bed) = Bed::start().await else { return };
    let task = running(&bed, "c").await;
    task.exec("e", "true").await.unwrap();
    let taken = task.exec("e", "true").await.map(drop);
    assert_refused(taken, Code::AlreadyExists, "id e: already exists");
    let empty = "exec id cannot be empty: invalid argument";
    assert_refused(task.exec("", "true").await.map(drop), Code::InvalidArgument, empty);
    for (id, words) in
        [("a/b", "invalid exec id"), ("init", "first process"), ("-a", "invalid exec id")]
    {
        let error = task.exec(id, "true").await.map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().contains(words), "{error:?}");
    }
    for spec in [None, Some(any("", b"")), Some(any("a/b", b"[]")), Some(any("a/b", b"{"))] {
        let given = spec.clone();
        let added = task.exec_with("f", json!({}), |request| request.spec = spec).await;
        let error = added.map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{given:?} {error:?}");
        assert!(error.message().starts_with("spec: "), "{error:?}");
    }
    let relative =
        task.exec_with("f", json!({}), |request| request.stdout = "out".to_owned()).await;
    let error = relative.map(drop).unwrap_err();
    assert!(
        error.code() == Code::InvalidArgument && error.message().starts_with("stdout: "),
        "{error:?}"
    );
    let error = task.delete_exec("").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    // Nothing of what was refused is there.
    assert_refused(
        task.get("f").await.map(drop),
        Code::NotFound,
        "process does not exist f: not found",
    );
    task.end().await;
    finish(bed).await;
}
