//! Checkpoints by path, as far as no CRIU is needed for them. A runtime that only says that it made one, and
//! that restores by starting anew, stands in for the real one; `tests/guest/checkpoint.sh` has that.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gantry_api::containerd::{
    event_types::{TaskCheckpointed, TaskCreate},
    from_any,
    runc::{CheckpointOptions, Options},
    task_types::Status as State,
    tasks::CheckpointTaskRequest,
    to_any, topic,
};
use gantry_tests::{Runtime, runtime::wrapper};
use rustix::process::Signal;
use tonic::{Code, Status};

use super::{NewTask, Task, finish, request};
use crate::{
    Bed, assert_refused,
    events::{next, subscribe},
};

/// Of `checkpoint`: leaves an image, and its arguments beside it.
pub(super) const MAKE: &str = r#"
for word; do
    case $word in --image-path=*) image=${word#*=};; --work-path=*) work=${word#*=};; esac
done
echo "$@" >"$image/arguments"
touch "$image/inventory.img" "$work/dump.log""#;

/// Of `restore`: leaves its arguments, and becomes `run`.
pub(crate) const RESTORE: &str = r#"
for word; do
    shift
    case $word in
        restore) set -- "$@" run;;
        --image-path=*) echo "$word" >>"$0.restored";;
        --work-path=* | --tcp-established) ;;
        *) set -- "$@" "$word";;
    esac
done"#;

pub(super) fn stand_in(bed: &Bed, checkpoint: &str, restore: &str) -> PathBuf {
    let script =
        format!("case $command in\ncheckpoint) {checkpoint};;\nrestore) {restore};;\nesac");
    wrapper(bed.server.work(), Runtime::Runc, &script)
}

/// A task of this runtime, restored from an image if one is given.
pub(crate) fn new<'a>(bed: &'a Bed, id: &str, runtime: &Path, image: Option<&Path>) -> NewTask<'a> {
    let mut new = NewTask::new(bed, "ns", id);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    new.request.options = Some(to_any(&Options {
        binary_name: text(runtime),
        criu_image_path: image.map(text).unwrap_or_default(),
        ..Options::default()
    }));
    new
}

/// What looks like an image.
pub(crate) fn make_image(bed: &Bed) -> PathBuf {
    let image = bed.server.work().join("image");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join("inventory.img"), "").unwrap();
    image
}

async fn checkpoint(
    bed: &Bed,
    task: &Task<'_>,
    path: &Path,
    change: impl FnOnce(&mut CheckpointOptions),
) -> Result<(), Status> {
    let image_path = path.to_str().expect("UTF-8").to_owned();
    let mut options = CheckpointOptions { image_path, ..CheckpointOptions::default() };
    change(&mut options);
    let asked = CheckpointTaskRequest {
        container_id: task.id.clone(),
        options: Some(to_any(&options)),
        ..CheckpointTaskRequest::default()
    };
    let answer = bed.tasks().checkpoint(request(&task.namespace, asked)).await?.into_inner();
    assert_eq!(answer.descriptors, []);
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_image_is_written_where_its_caller_says() {
    let Some(bed) = Bed::start().await else { return };
    let runtime = stand_in(&bed, &format!("{MAKE}; exit 0"), "exit 1");
    let mut events = subscribe(&bed, &[&format!("topic==\"{}\"", topic::TASK_CHECKPOINTED)]).await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    let work = bed.server.work();
    let (image, logs) = (work.join("deep/image"), work.join("logs"));
    fs::create_dir(&logs).unwrap();
    let created = checkpoint(&bed, &task, &image, |_| {}).await;
    assert_refused(created, Code::Unknown, "cannot checkpoint a task in created state: unknown");
    assert!(!image.exists());
    task.start("").await.unwrap();
    let all = |options: &mut CheckpointOptions| {
        (options.open_tcp, options.external_unix_sockets) = (true, true);
        (options.terminal, options.file_locks) = (true, true);
        options.empty_namespaces = vec!["network".to_owned()];
        options.cgroups_mode = "soft".to_owned();
        options.work_path = logs.to_str().unwrap().to_owned();
    };
    checkpoint(&bed, &task, &image, all).await.unwrap();
    assert_eq!(names(&image), ["arguments", "gantry.json", "inventory.img"]);
    assert_eq!(names(&logs), ["dump.log"]);
    let arguments = fs::read_to_string(image.join("arguments")).unwrap();
    for flag in [
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--empty-ns=network",
        "--manage-cgroups-mode=soft",
        "--leave-running",
    ] {
        assert!(arguments.contains(flag), "no {flag} in {arguments}");
    }
    let event: TaskCheckpointed =
        from_any(&next(&mut events).await.event.unwrap()).unwrap().unwrap();
    assert_eq!(
        (event.container_id.as_str(), event.checkpoint.as_str()),
        ("c", image.to_str().unwrap())
    );
    let again = checkpoint(&bed, &task, &image, |_| {}).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");

    // As clients do it. A directory that is there is used.
    let paused = work.join("paused");
    fs::create_dir(&paused).unwrap();
    bed.tasks().pause(pause(&task)).await.unwrap();
    checkpoint(&bed, &task, &paused, |_| {}).await.unwrap();
    assert_eq!(task.state("").await, State::Paused);
    assert_eq!(names(&paused), ["arguments", "gantry.json", "inventory.img"]);
    task.end().await;
    finish(bed).await;
}

fn pause(task: &Task<'_>) -> tonic::Request<gantry_api::containerd::tasks::PauseTaskRequest> {
    let container_id = task.id.clone();
    request(&task.namespace, gantry_api::containerd::tasks::PauseTaskRequest { container_id })
}

#[tokio::test]
async fn a_failed_image_leaves_nothing_but_what_was_there() {
    let Some(bed) = Bed::start().await else { return };
    let fail = format!("{MAKE}; echo 'criu says no' >&2; exit 1");
    let runtime = stand_in(&bed, &fail, "exit 1");
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let (fresh, there) = (bed.server.work().join("fresh"), bed.server.work().join("there"));
    fs::create_dir(&there).unwrap();
    for image in [&fresh, &there] {
        let error =
            checkpoint(&bed, &task, image, |options| options.exit = true).await.unwrap_err();
        assert_eq!(error.code(), Code::Unknown);
        let begin = "OCI runtime checkpoint failed: ";
        assert!(error.message().starts_with(begin), "{error:?}");
        assert!(error.message().contains("criu says no"), "{error:?}");
    }
    assert!(!fresh.exists());
    assert_eq!(names(&there), [""; 0]);
    assert_eq!(task.state("").await, State::Running);
    task.end().await;
    finish(bed).await;
}

/// As the real one does: the processes are killed when their state is on disk.
#[tokio::test]
async fn a_checkpoint_may_end_the_task_and_its_event_precedes_the_exit() {
    let Some(bed) = Bed::start().await else { return };
    let kill = format!(
        "{MAKE}\nexec runc --root {}/runc/ns kill c KILL",
        bed.server.state_dir().display()
    );
    let runtime = stand_in(&bed, &kill, "exit 1");
    let mut events = subscribe(&bed, &["namespace==ns,topic~=|^/tasks/|"]).await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let image = bed.server.work().join("image");
    checkpoint(&bed, &task, &image, |options| options.exit = true).await.unwrap();
    let arguments = fs::read_to_string(image.join("arguments")).unwrap();
    assert!(!arguments.contains("--leave-running"), "{arguments}");
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    for topic in [
        topic::TASK_CREATE,
        topic::TASK_START,
        topic::TASK_CHECKPOINTED,
        topic::TASK_EXIT,
        topic::TASK_DELETE,
    ] {
        assert_eq!(next(&mut events).await.topic, topic);
    }
    finish(bed).await;
}

#[tokio::test]
async fn nothing_of_a_restored_task_runs_before_it_is_started() {
    let Some(mut bed) = Bed::start().await else { return };
    let runtime = stand_in(&bed, "exit 1", RESTORE);
    let image = make_image(&bed);
    let restored = PathBuf::from(format!("{}.restored", runtime.display()));
    let kept = {
        let mut events = subscribe(&bed, &[&format!("topic==\"{}\"", topic::TASK_CREATE)]).await;
        let task = new(&bed, "c", &runtime, Some(&image)).sh("echo here; sleep 1000000");
        let task = task.create().await.unwrap();
        assert_eq!(task.pid, 0);
        let event: TaskCreate = from_any(&next(&mut events).await.event.unwrap()).unwrap().unwrap();
        assert_eq!((event.pid, event.checkpoint.as_str()), (0, image.to_str().unwrap()));
        let event = task.get("").await.unwrap();
        assert_eq!((event.pid, event.status()), (0, State::Created));
        assert_eq!(task.kill("", 9).await.unwrap_err().code(), Code::FailedPrecondition);
        task.kept()
    };
    bed.server.end(Signal::KILL).await;
    bed.server.start_again().await;
    let mut task = kept.again(&bed);
    let event = task.get("").await.unwrap();
    assert_eq!((event.pid, event.status()), (0, State::Created));
    assert!(!restored.exists());
    let pid = task.start("").await.unwrap();
    assert!(pid > 0 && restored.exists());
    task.pipes.stdout_until("here").await;
    let event = task.get("").await.unwrap();
    assert_eq!((event.pid, event.status()), (pid, State::Running));
    let again = "cannot start a running process: unknown";
    assert_refused(task.start("").await, Code::Unknown, again);
    task.kill("", 9).await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    assert_eq!(task.delete().await.unwrap().pid, pid);
    finish(bed).await;
}

#[tokio::test]
async fn a_restore_that_fails_can_be_tried_again() {
    let Some(bed) = Bed::start().await else { return };
    let fail = format!("rm \"$0.fails\" && {{ echo 'criu says no' >&2; exit 1; }}\n{RESTORE}");
    let runtime = stand_in(&bed, "exit 1", &fail);
    fs::write(format!("{}.fails", runtime.display()), "").unwrap();
    let image = make_image(&bed);
    let task = new(&bed, "c", &runtime, Some(&image)).sh("exit 5").create().await.unwrap();
    let error = task.start("").await.unwrap_err();
    assert!(error.message().contains("criu says no"), "{error:?}");
    assert_eq!(task.state("").await, State::Created);
    task.start("").await.unwrap();
    assert_eq!(task.wait("").await.unwrap().exit_status, 5);
    task.delete().await.unwrap();

    let never = new(&bed, "never", &runtime, Some(&image)).create().await.unwrap();
    assert_eq!(never.delete().await.unwrap().exit_status, 137);
    let missing = bed.server.work().join("no-image");
    let error = new(&bed, "missing", &runtime, Some(&missing)).create().await.map(drop);
    assert_eq!(error.unwrap_err().code(), Code::NotFound);
    finish(bed).await;
}
