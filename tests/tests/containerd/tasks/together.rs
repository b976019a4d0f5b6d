//! Requests about one task that come at once: each is done in its turn, or refused for what the task then is.

use gantry_tests::patiently;
use tokio::join;
use tonic::{Code, Status};

use super::{
    NewTask, Task,
    control::{pause, resume, update},
    finish,
};
use crate::{Bed, assert_refused};

/// Of several equal requests one succeeds, and all others get the same error.
#[track_caller]
fn assert_one_of<T: std::fmt::Debug>(answers: [Result<T, Status>; 4], code: Code, text: &str) {
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    for refused in refused {
        assert_refused(refused, code, text);
    }
}

async fn four<T>(ask: impl AsyncFn() -> T) -> [T; 4] {
    let (first, second, third, fourth) = join!(ask(), ask(), ask(), ask());
    [first, second, third, fourth]
}

#[tokio::test]
async fn each_is_done_or_refused_for_what_came_before_it() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let started = four(async || task.start("").await).await;
    assert_one_of(started, Code::Unknown, "cannot start a running process: unknown");
    let updated = four(async || update(&bed, &task, r#"{"memory":{"limit":67108864}}"#).await);
    assert!(updated.await.iter().all(Result::is_ok));
    let paused = four(async || pause(&bed, &task).await).await;
    assert_one_of(paused, Code::Unknown, "cannot pause a paused container: unknown");
    let limits = r#"{"cpu":{"shares":512}}"#;
    let (updated, resumed) = join!(update(&bed, &task, limits), resume(&bed, &task));
    updated.and(resumed).unwrap();
    task.kill("", 9).await.unwrap();
    task.wait("").await.unwrap();
    let deleted = four(async || task.delete().await).await;
    assert_one_of(deleted, Code::NotFound, "task c not found");
    finish(bed).await;
}

#[tokio::test]
async fn what_waits_is_refused_once_the_task_has_ended() {
    let Some(bed) = Bed::start().await else { return };
    for round in 0..5 {
        let id = format!("c{round}");
        let task: Task<'_> = NewTask::new(&bed, "ns", &id).create().await.unwrap();
        task.start("").await.unwrap();
        let limits = r#"{"memory":{"limit":67108864}}"#;
        let updates = four(async || update(&bed, &task, limits).await);
        let (updated, killed) = join!(updates, task.kill("", 9));
        killed.unwrap();
        for refused in updated.into_iter().filter(Result::is_err) {
            let stopped = "cannot update a stopped container: unknown";
            assert_refused(refused, Code::Unknown, stopped);
        }
        patiently("Wait", task.wait("")).await.unwrap();
        task.delete().await.unwrap();
    }
    finish(bed).await;
}
