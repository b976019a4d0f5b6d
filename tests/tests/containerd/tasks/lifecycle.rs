//! A task from its creation to its end.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use gantry_api::containerd::{
    containers::DeleteContainerRequest, task_types::Status as State, tasks::ListTasksRequest,
};
use gantry_tests::{patiently, processes};
use tokio::task::JoinSet;
use tonic::Code;

use super::{NewTask, finish, request};
use crate::{Bed, assert_refused};

async fn ids(bed: &Bed, namespace: &str) -> Vec<String> {
    let listed = bed.tasks().list(request(namespace, ListTasksRequest::default())).await.unwrap();
    listed.into_inner().tasks.into_iter().map(|task| task.id).collect()
}

#[tokio::test]
async fn a_task_is_created_started_waited_for_and_deleted() {
    let Some(bed) = Bed::start().await else { return };
    let before = SystemTime::now() - Duration::from_secs(1);
    for round in ["first", "second"] {
        let new = NewTask::new(&bed, "ns", "c").sh("echo hello; read line; echo $line >&2; exit 7");
        let mut task = new.create().await.unwrap();
        assert!(task.pid > 0);
        let created = task.get("").await.unwrap();
        assert_eq!((created.status(), created.pid), (State::Created, task.pid));
        assert_eq!((created.id.as_str(), created.container_id.as_str()), ("c", ""));
        assert_eq!(created.stdin, task.pipes.paths.stdin.to_str().unwrap());
        assert_eq!(created.stdout, task.pipes.paths.stdout.to_str().unwrap());
        assert_eq!(created.stderr, task.pipes.paths.stderr.to_str().unwrap());
        assert_eq!((created.exit_status, created.exited_at, created.terminal), (0, None, false));
        let waiting = tokio::spawn(task.waiting(""));
        assert_eq!(task.start("").await.unwrap(), task.pid, "{round}");
        task.pipes.stdout_until("hello").await;
        assert_eq!(task.state("").await, State::Running);
        assert_eq!(ids(&bed, "ns").await, ["c"]);
        assert!(!waiting.is_finished());
        task.pipes.write(b"bye\n").await;
        let exit = patiently("Wait", waiting).await.unwrap().unwrap();
        assert_eq!(exit.exit_status, 7);
        let exited_at = SystemTime::try_from(exit.exited_at.unwrap()).unwrap();
        assert!(exited_at > before && exited_at <= SystemTime::now(), "{exited_at:?}");
        let stopped = task.get("").await.unwrap();
        assert_eq!((stopped.status(), stopped.pid), (State::Stopped, task.pid));
        assert_eq!((stopped.exit_status, stopped.exited_at), (7, exit.exited_at));
        assert_eq!(ids(&bed, "ns").await, ["c"], "it stays until it is deleted");
        assert_eq!(task.wait("").await.unwrap(), exit, "a late wait is answered, too");
        let deleted = task.delete().await.unwrap();
        assert_eq!((deleted.id.as_str(), deleted.pid), ("", task.pid));
        assert_eq!((deleted.exit_status, deleted.exited_at), (7, exit.exited_at));
        assert_eq!(task.pipes.stderr().await, b"bye\n");
        assert_refused(task.delete().await, Code::NotFound, "task c not found");
        assert_eq!(ids(&bed, "ns").await, [""; 0]);
    }
    finish(bed).await;
}

#[tokio::test]
async fn exit_statuses_are_numbers() {
    let Some(bed) = Bed::start().await else { return };
    for (number, (script, expected)) in
        [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
            .into_iter()
            .enumerate()
    {
        // The first process of a pid namespace does not get its own signals.
        let script = format!("sh -c '{script}'; exit $?");
        let task = NewTask::new(&bed, "ns", &format!("c{number}")).sh(&script);
        let task = task.create().await.unwrap();
        task.start("").await.unwrap();
        assert_eq!(task.wait("").await.unwrap().exit_status, expected, "{script}");
        task.end().await;
    }
    let task = NewTask::new(&bed, "ns", "killed").create().await.unwrap();
    task.start("").await.unwrap();
    task.kill("", 9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    assert_eq!(task.delete().await.unwrap().exit_status, 137);
    finish(bed).await;
}

#[tokio::test]
async fn a_task_may_be_killed_before_it_is_started() {
    let Some(bed) = Bed::start().await else { return };
    for all in [false, true] {
        let task = NewTask::new(&bed, "ns", &format!("c-{all}")).create().await.unwrap();
        let waiting = tokio::spawn(task.waiting(""));
        if all {
            task.kill_all(9).await.unwrap();
        } else {
            task.kill("", 9).await.unwrap();
        }
        let exit = patiently("Wait", waiting).await.unwrap().unwrap();
        assert_eq!(exit.exit_status, 137);
        assert_eq!(task.state("").await, State::Stopped);
        let again = "cannot start a stopped process: unknown";
        assert_refused(task.start("").await, Code::Unknown, again);
        let deleted = task.delete().await.unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (task.pid, 137));
    }
    finish(bed).await;
}

#[tokio::test]
async fn a_task_may_be_deleted_before_it_is_started() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let waiting = tokio::spawn(task.waiting(""));
    // Whoever waits is known by then, as one connection's requests are read in turn.
    assert_eq!(task.state("").await, State::Created);
    task.delete().await.unwrap();
    assert!(processes::ends_within(task.pid, Duration::from_secs(10)).await);
    // Whether the answer is the exit or an error, the wait ends.
    let _ = patiently("Wait", waiting).await.unwrap();
    assert_refused(task.get("").await, Code::NotFound, "task c not found");
    finish(bed).await;
}

#[tokio::test]
async fn any_number_may_wait() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let mut waiting: JoinSet<_> = (0..100).map(|_| task.waiting("")).collect();
    let mut gone: JoinSet<_> = (0..100).map(|_| task.waiting("")).collect();
    task.start("").await.unwrap();
    gone.abort_all();
    while gone.join_next().await.is_some() {}
    task.kill("", 15).await.unwrap();
    task.kill("", 9).await.unwrap();
    let first = task.wait("").await.unwrap();
    while let Some(waited) = patiently("Wait", waiting.join_next()).await {
        assert_eq!(waited.unwrap().unwrap(), first);
    }
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn two_namespaces_may_have_a_task_of_one_id() {
    let Some(bed) = Bed::start().await else { return };
    let one = NewTask::new(&bed, "moby", "c").create().await.unwrap();
    let other = NewTask::new(&bed, "k8s.io", "c").sh("exit 3").create().await.unwrap();
    one.start("").await.unwrap();
    other.start("").await.unwrap();
    assert_eq!(other.wait("").await.unwrap().exit_status, 3);
    assert_eq!(other.delete().await.unwrap().pid, other.pid);
    assert_eq!(one.state("").await, State::Running);
    assert_eq!((ids(&bed, "moby").await, ids(&bed, "k8s.io").await), (vec!["c".into()], vec![]));
    one.end().await;
    finish(bed).await;
}

/// Such a task could not be reached by its id any more.
#[tokio::test]
async fn a_container_with_a_task_is_not_deleted() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let delete = || DeleteContainerRequest { id: "c".to_owned() };
    let refused = bed.containers().delete(request("ns", delete())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    task.end().await;
    bed.containers().delete(request("ns", delete())).await.unwrap();
    finish(bed).await;
}

/// Either there is a task when the container is to be deleted, or no container when the task is to be made.
#[tokio::test]
async fn a_container_is_not_deleted_while_its_task_is_created() {
    let Some(bed) = Bed::start().await else { return };
    for round in 0..8 {
        let id = format!("c{round}");
        let deleting = async {
            loop {
                let delete = request("ns", DeleteContainerRequest { id: id.clone() });
                match bed.containers().delete(delete).await {
                    // It was not made yet.
                    Err(error) if error.code() == Code::NotFound => {}
                    deleted => break deleted,
                }
            }
        };
        match tokio::join!(NewTask::new(&bed, "ns", &id).create(), deleting) {
            (Ok(task), Err(refused)) => {
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
                bed.get("ns", &id).await.unwrap();
                task.end().await;
            }
            (Err(missing), Ok(_)) => assert_eq!(missing.code(), Code::NotFound, "{missing:?}"),
            (made, deleted) => panic!("{round}: {:?} {deleted:?}", made.map(|task| task.pid)),
        }
        assert_eq!(ids(&bed, "ns").await, [""; 0]);
    }
    finish(bed).await;
}

/// The runtime need not copy itself, and the container cannot reach its file.
#[tokio::test]
async fn the_runtime_is_executed_from_memory() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let program = fs::read_link(format!("/proc/{}/exe", task.pid)).unwrap();
    assert_eq!(program, Path::new("/memfd:runc (deleted)"));
    task.start("").await.unwrap();
    task.end().await;
    finish(bed).await;
}
