//! What is done with a task that runs.

use gantry_api::containerd::{
    task_types::Status as State,
    tasks::{
        ListPidsRequest, MetricsRequest, PauseTaskRequest, ResumeTaskRequest, UpdateTaskRequest,
    },
    type_url,
};
use gantry_tests::{cgroup, eventually};
use tonic::{Code, Status};

use super::{NewTask, Task, finish, request};
use crate::{Bed, any, assert_refused};

pub(super) async fn pause(bed: &Bed, task: &Task<'_>) -> Result<(), Status> {
    let asked = PauseTaskRequest { container_id: task.id.clone() };
    bed.tasks().pause(request(&task.namespace, asked)).await.map(drop)
}

pub(super) async fn resume(bed: &Bed, task: &Task<'_>) -> Result<(), Status> {
    let asked = ResumeTaskRequest { container_id: task.id.clone() };
    bed.tasks().resume(request(&task.namespace, asked)).await.map(drop)
}

pub(super) async fn update(bed: &Bed, task: &Task<'_>, resources: &str) -> Result<(), Status> {
    let asked = UpdateTaskRequest {
        container_id: task.id.clone(),
        resources: Some(any(type_url::LINUX_RESOURCES, resources.as_bytes())),
        ..UpdateTaskRequest::default()
    };
    bed.tasks().update(request(&task.namespace, asked)).await.map(drop)
}

async fn metrics(bed: &Bed, namespace: &str, filters: &[&str]) -> Result<Vec<String>, Status> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let read = bed.tasks().metrics(request(namespace, MetricsRequest { filters })).await?;
    let metrics = read.into_inner().metrics;
    for metric in &metrics {
        assert!(metric.timestamp.is_some());
        let data = metric.data.as_ref().expect("data");
        assert!(data.type_url.starts_with("io.containerd.cgroups.v"), "{}", data.type_url);
        assert!(!data.value.is_empty());
    }
    Ok(metrics.into_iter().map(|metric| metric.id).collect())
}

#[tokio::test]
async fn a_task_is_paused_and_resumed() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let created = "cannot pause task in created state: unknown";
    assert_refused(pause(&bed, &task).await, Code::Unknown, created);
    let created = "cannot resume task in created state: unknown";
    assert_refused(resume(&bed, &task).await, Code::Unknown, created);
    task.start("").await.unwrap();
    let running = "cannot resume a running process: unknown";
    assert_refused(resume(&bed, &task).await, Code::Unknown, running);
    pause(&bed, &task).await.unwrap();
    assert_eq!(task.state("").await, State::Paused);
    let paused = "cannot pause a paused container: unknown";
    assert_refused(pause(&bed, &task).await, Code::Unknown, paused);
    let paused = "cannot exec in a paused state: unknown";
    assert_refused(task.exec("e", "true").await.map(drop), Code::Unknown, paused);
    let paused = "cannot delete a paused process: unknown";
    assert_refused(task.delete().await, Code::Unknown, paused);
    resume(&bed, &task).await.unwrap();
    assert_eq!(task.state("").await, State::Running);
    pause(&bed, &task).await.unwrap();
    // It dies of that, frozen or not.
    task.kill("", 9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    let stopped = "cannot pause a stopped container: unknown";
    assert_refused(pause(&bed, &task).await, Code::Unknown, stopped);
    let stopped = "cannot resume a stopped container: unknown";
    assert_refused(resume(&bed, &task).await, Code::Unknown, stopped);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn limits_are_changed_and_zeros_change_nothing() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let file = if cgroup::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    let limit = || cgroup::read(&task.cgroup, file).expect("a limit").trim().to_owned();
    update(&bed, &task, r#"{"memory":{"limit":67108864}}"#).await.unwrap();
    assert_eq!(limit(), "67108864", "a task that is not started yet");
    task.start("").await.unwrap();
    update(&bed, &task, r#"{"memory":{"limit":134217728}}"#).await.unwrap();
    assert_eq!(limit(), "134217728");
    // As dockerd has it.
    let unchanged = r#"{"memory":{"limit":0,"reservation":0},"cpu":{"shares":512}}"#;
    update(&bed, &task, unchanged).await.unwrap();
    assert_eq!(limit(), "134217728");
    for bad in ["", "[]", "{"] {
        let error = update(&bed, &task, bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().starts_with("resources: "), "{error:?}");
    }
    task.kill("", 9).await.unwrap();
    task.wait("").await.unwrap();
    let stopped = "cannot update a stopped container: unknown";
    assert_refused(update(&bed, &task, unchanged).await, Code::Unknown, stopped);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn all_processes_of_a_task_are_listed_and_killed() {
    let Some(bed) = Bed::start().await else { return };
    let script = "sleep 1000 & sleep 1000 & echo started; wait";
    let mut task = NewTask::new(&bed, "ns", "c").sh(script).create().await.unwrap();
    task.start("").await.unwrap();
    task.pipes.stdout_until("started").await;
    let asked = || request("ns", ListPidsRequest { container_id: "c".to_owned() });
    let listed = bed.tasks().list_pids(asked()).await.unwrap().into_inner().processes;
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(listed.iter().all(|process| process.info.is_none()));
    let all: Vec<u32> = listed.iter().map(|process| process.pid).collect();
    assert!(all.contains(&task.pid));
    task.kill_all(9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    let ended = || {
        all.iter()
            .all(|pid| gantry_tests::processes::command(*pid).is_none_or(|line| line.is_empty()))
    };
    eventually("all processes have ended", ended).await;
    assert_eq!(bed.tasks().list_pids(asked()).await.unwrap().into_inner().processes, []);
    // What may be left of it has ended, and there is nothing to complain of.
    task.kill_all(9).await.unwrap();
    let finished = "process already finished: not found";
    assert_refused(task.kill("", 9).await, Code::NotFound, finished);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn usage_is_read_of_the_tasks_that_a_filter_lets_through() {
    let Some(bed) = Bed::start().await else { return };
    let first = NewTask::new(&bed, "ns", "a").create().await.unwrap();
    let second = NewTask::new(&bed, "ns", "b").create().await.unwrap();
    let other = NewTask::new(&bed, "other", "a").create().await.unwrap();
    for task in [&first, &second, &other] {
        task.start("").await.unwrap();
    }
    let all = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(metrics(&bed, "ns", &[]).await.unwrap(), all);
    assert_eq!(metrics(&bed, "ns", &["id==b"]).await.unwrap(), ["b"]);
    assert_eq!(metrics(&bed, "ns", &["id==b", "id==a"]).await.unwrap(), all);
    assert_eq!(metrics(&bed, "ns", &["namespace==ns, id==a"]).await.unwrap(), ["a"]);
    for nothing in ["id==c", "namespace==other", "runtime==io.containerd.runc.v2"] {
        assert_eq!(metrics(&bed, "ns", &[nothing]).await.unwrap(), [""; 0]);
    }
    let error = metrics(&bed, "ns", &["id=="]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown, "{error:?}");
    // One that has ended is left out, and keeps nobody else from being read.
    second.kill("", 9).await.unwrap();
    second.wait("").await.unwrap();
    assert!(metrics(&bed, "ns", &[]).await.unwrap().contains(&"a".to_owned()));
    second.delete().await.unwrap();
    assert_eq!(metrics(&bed, "ns", &[]).await.unwrap(), ["a"]);
    first.end().await;
    other.end().await;
    finish(bed).await;
}
