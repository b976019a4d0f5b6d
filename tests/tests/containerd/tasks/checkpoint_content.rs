//! Checkpoints that are content, and tasks that are created from them, with the stand-in for CRIU of `checkpoint.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gantry_api::containerd::{
    content::{ListContentRequest, ListStatusesRequest},
    leases::DeleteRequest,
    runc::CheckpointOptions,
    task_types::Status as State,
    tasks::CheckpointTaskRequest,
    to_any, type_url,
    types::Descriptor,
};
use gantry_tests::eventually;
use prost::Message;
use prost_types::Any;
use rustix::process::Signal;
use tonic::{Code, Status};

use super::{
    NewTask, Task,
    checkpoint::{MAKE, RESTORE, new, stand_in},
    finish, request,
};
use crate::{
    Bed,
    content::{KEEPER, keep, leased, put, read},
};

const CHECKPOINT: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
const CONFIG: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";

/// A checkpoint under this lease.
fn asked(task: &Task<'_>, lease: &str, exit: bool) -> tonic::Request<CheckpointTaskRequest> {
    let options = exit.then(|| to_any(&CheckpointOptions { exit, ..<_>::default() }));
    let container_id = task.id.clone();
    leased(
        &task.namespace,
        lease,
        CheckpointTaskRequest { container_id, options, ..<_>::default() },
    )
}

async fn checkpoint(bed: &Bed, task: &Task<'_>) -> Result<Vec<Descriptor>, Status> {
    let made = bed.tasks().checkpoint(asked(task, KEEPER, false)).await?;
    Ok(made.into_inner().descriptors)
}

/// Images that the server has. Those that are being removed are none.
fn images(bed: &Bed) -> usize {
    let images = fs::read_dir(bed.server.root().join("checkpoints")).into_iter().flatten();
    let paths = images.map(|image| image.unwrap().path());
    paths.filter(|path| path.extension().is_none_or(|extension| extension != "removed")).count()
}

/// Blobs, and writes that are under way.
async fn content(bed: &Bed) -> (usize, usize) {
    let list = bed.content().list(request("ns", ListContentRequest::default())).await;
    let (mut list, mut blobs) = (list.unwrap().into_inner(), 0);
    while let Some(message) = list.message().await.unwrap() {
        blobs += message.info.len();
    }
    let writes = bed.content().list_statuses(request("ns", ListStatusesRequest::default())).await;
    (blobs, writes.unwrap().into_inner().statuses.len())
}

fn from<'a>(bed: &'a Bed, id: &str, runtime: &Path, checkpoint: Descriptor) -> NewTask<'a> {
    let mut new = new(bed, id, runtime, None);
    new.request.checkpoint = Some(checkpoint);
    new
}

fn descriptor(media_type: &str, digest: &str) -> Descriptor {
    let (media_type, digest) = (media_type.to_owned(), digest.to_owned());
    Descriptor { media_type, digest, ..Descriptor::default() }
}

#[tokio::test]
async fn a_checkpoint_without_a_path_is_content_that_tasks_are_restored_from() {
    let Some(mut bed) = Bed::start().await else { return };
    let runtime = stand_in(&bed, &format!("{MAKE}; exit 0"), RESTORE);
    keep(&bed, "ns").await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    let created = checkpoint(&bed, &task).await.unwrap_err();
    assert_eq!(created.message(), "cannot checkpoint a task in created state: unknown");
    assert_eq!((content(&bed).await, images(&bed)), ((0, 0), 0));
    task.start("").await.unwrap();
    let made = checkpoint(&bed, &task).await.unwrap();
    let [image, config] = &made[..] else { panic!("{made:?}") };
    assert_eq!((&*image.media_type, &*config.media_type), (CHECKPOINT, CONFIG));
    assert_eq!((content(&bed).await, images(&bed)), ((2, 0), 0));
    let tar = read(&bed, "ns", &image.digest, 0, 0).await.unwrap();
    assert_eq!(i64::try_from(tar.len()).unwrap(), image.size);
    let archive = bed.server.work().join("image.tar");
    fs::write(&archive, tar).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "arguments\ngantry.json\ninventory.img\n");
    let spec = read(&bed, "ns", &config.digest, 0, 0).await.unwrap();
    assert_eq!(i64::try_from(spec.len()).unwrap(), config.size);
    let spec = Any::decode(&*spec).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&spec.value).unwrap();
    assert!(spec.type_url == type_url::SPEC && value["process"]["args"].is_array(), "{spec:?}");
    let again = checkpoint(&bed, &task).await.unwrap();
    assert_eq!(again[1], *config, "the specification is there already");
    task.end().await;

    let restored = from(&bed, "r", &runtime, image.clone()).sh("echo here; sleep 1000000");
    let task = restored.create().await.unwrap();
    assert_eq!((task.pid, images(&bed)), (0, 1));
    let never = from(&bed, "n", &runtime, image.clone()).create().await.unwrap();
    assert_eq!(images(&bed), 2);
    never.delete().await.unwrap();
    assert_eq!(images(&bed), 1);
    let kept = task.kept();
    drop(task);
    bed.server.end(Signal::KILL).await;
    // As if that server had been making a checkpoint.
    let left = bed.server.root().join("checkpoints/7");
    fs::create_dir(&left).unwrap();
    bed.server.start_again().await;
    eventually("what was left is removed", || !left.exists()).await;
    let mut task = kept.again(&bed);
    assert_eq!((task.state("").await, images(&bed)), (State::Created, 1));
    task.start("").await.unwrap();
    task.pipes.stdout_until("here").await;
    eventually("what was restored needs no image", || images(&bed) == 0).await;
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn a_checkpoint_that_fails_leaves_nothing() {
    let Some(bed) = Bed::start().await else { return };
    let fail = format!("{MAKE}; echo 'criu says no' >&2; exit 1");
    let runtime = stand_in(&bed, &fail, "exit 1");
    keep(&bed, "ns").await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let refused = bed.tasks().checkpoint(asked(&task, KEEPER, true)).await.unwrap_err();
    assert!(refused.message().contains("criu says no"), "{refused:?}");
    // This is found before the runtime can end the task.
    let no_lease = bed.tasks().checkpoint(asked(&task, "none", true)).await.unwrap_err();
    assert_eq!(no_lease.code(), Code::NotFound, "{no_lease:?}");
    assert_eq!((content(&bed).await, images(&bed)), ((0, 0), 0));
    assert_eq!(task.state("").await, State::Running);
    task.end().await;
    finish(bed).await;
}

/// A runtime that says that it makes an image, waits to go on, and ends as this script says. Its path, and that with what it says
/// and waits for.
fn waiting(bed: &Bed, end: &str) -> (PathBuf, [PathBuf; 2]) {
    let script = format!("{MAKE}; echo >\"$0.runs\"; read _ <\"$0.goes-on\"; {end}");
    let runtime = stand_in(bed, &script, "exit 1");
    let files = ["runs", "goes-on"].map(|name| runtime.with_extension(name));
    let made = Command::new("mkfifo").arg(&files[1]).status().unwrap();
    assert!(made.success());
    (runtime, files)
}

/// What the real one does of a task that is to end.
fn kill(bed: &Bed) -> String {
    format!("exec runc --root {}/runc/ns kill c KILL", bed.server.state_dir().display())
}

#[tokio::test]
async fn nothing_is_left_of_a_checkpoint_whose_caller_has_gone() {
    let Some(bed) = Bed::start().await else { return };
    let (runtime, [runs, goes_on]) = waiting(&bed, "exit 0");
    keep(&bed, "ns").await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let (mut client, asked) = (bed.tasks(), asked(&task, KEEPER, false));
    let call = tokio::spawn(async move { client.checkpoint(asked).await.map(drop) });
    eventually("the runtime is asked", || runs.exists()).await;
    assert_eq!((content(&bed).await, images(&bed)), ((0, 1), 1));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The server knows it before it answers this on the same connection.
    assert_eq!(task.state("").await, State::Running);
    fs::write(goes_on, "\n").unwrap();
    eventually("the image is removed", || images(&bed) == 0).await;
    // Whoever asks later waits for nothing: the write is given up after the removal.
    while content(&bed).await != (0, 0) {
        tokio::task::yield_now().await;
    }
    task.end().await;
    finish(bed).await;
}

/// Nothing else is left of the task.
#[tokio::test]
async fn a_checkpoint_that_ends_the_task_becomes_content_also_if_the_caller_has_gone() {
    let Some(bed) = Bed::start().await else { return };
    let (runtime, [runs, goes_on]) = waiting(&bed, &kill(&bed));
    keep(&bed, "ns").await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let (mut client, asked) = (bed.tasks(), asked(&task, KEEPER, true));
    let call = tokio::spawn(async move { client.checkpoint(asked).await.map(drop) });
    eventually("the runtime is asked", || runs.exists()).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The server knows it before it answers this on the same connection.
    assert_eq!(task.state("").await, State::Running);
    fs::write(goes_on, "\n").unwrap();
    while content(&bed).await != (2, 0) {
        tokio::task::yield_now().await;
    }
    eventually("the image is removed", || images(&bed) == 0).await;
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn an_image_is_kept_if_the_task_has_ended_and_it_cannot_become_content() {
    let Some(mut bed) = Bed::start().await else { return };
    let (runtime, [runs, goes_on]) = waiting(&bed, &kill(&bed));
    keep(&bed, "ns").await;
    let task = new(&bed, "c", &runtime, None).create().await.unwrap();
    task.start("").await.unwrap();
    let (mut client, asked) = (bed.tasks(), asked(&task, KEEPER, true));
    let call = tokio::spawn(async move { client.checkpoint(asked).await.map(drop) });
    eventually("the runtime is asked", || runs.exists()).await;
    let lease = DeleteRequest { id: KEEPER.to_owned(), sync: false };
    bed.leases().delete(request("ns", lease)).await.unwrap();
    fs::write(goes_on, "\n").unwrap();
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.code(), Code::NotFound, "{failed:?}");
    let (_, path) = failed.message().rsplit_once("its image is kept: ").unwrap();
    let image = Path::new(path.strip_suffix(')').unwrap()).join("inventory.img");
    assert!(image.exists(), "{failed:?}");
    assert_eq!(task.wait("").await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    assert_eq!((content(&bed).await, images(&bed)), ((0, 0), 1));
    // The next server removes what this one might have left, which it has come to when the other one is gone.
    let left = bed.server.root().join("checkpoints/7");
    bed.server.end(Signal::TERM).await;
    fs::create_dir(&left).unwrap();
    bed.server.start_again().await;
    eventually("what was left is removed", || !left.exists()).await;
    assert!(image.exists());
    finish(bed).await;
}

#[tokio::test]
async fn what_is_no_checkpoint_is_refused_and_leaves_nothing() {
    let Some(bed) = Bed::start().await else { return };
    let runtime = stand_in(&bed, "exit 1", RESTORE);
    let tree = bed.server.work().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("inventory.img"), "image").unwrap();
    let tar = |arguments: &[&str]| {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&tree).args(["-P", "-cf", "-"]).args(arguments).arg("inventory.img");
        tar.output().unwrap().stdout
    };
    let good = tar(&[]);
    let of = async |data: &[u8]| descriptor(CHECKPOINT, &put(&bed, "ns", data).await);
    let outside = of(&tar(&["--transform=s,inv,../inv,"])).await;
    let empty = of(&tar(&["--transform=s,inv,other/inv,"])).await;
    let mut damaged = good.clone();
    damaged[150] ^= 1;
    let damaged = of(&damaged).await;
    let missing = format!("sha256:{:064}", 1);
    let elsewhere = put(&bed, "other", b"abc").await;
    for (checkpoint, code, words) in [
        (Descriptor::default(), Code::Unknown, "unsupported checkpoint type \"\""),
        (descriptor(CONFIG, &missing), Code::Unknown, "unsupported checkpoint type"),
        (descriptor(CHECKPOINT, ""), Code::NotFound, "content digest "),
        (descriptor(CHECKPOINT, &missing), Code::NotFound, "not found"),
        (descriptor(CHECKPOINT, &elsewhere), Code::NotFound, "not found"),
        (damaged.clone(), Code::Unknown, ""),
        (of(&good[..700]).await, Code::Unknown, ""),
        (outside, Code::Unknown, "../inventory.img"),
        (empty, Code::NotFound, "checkpoint"),
    ] {
        let shown = format!("{checkpoint:?}");
        let refused = from(&bed, "c", &runtime, checkpoint).create().await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{shown}: {refused:?}");
        assert!(refused.message().contains(words), "{shown}: {refused:?}");
        eventually("no image is left", || images(&bed) == 0).await;
    }
    assert!(!bed.server.root().join("checkpoints/inventory.img").exists());
    let good = of(&good).await;
    let task = from(&bed, "c", &runtime, good.clone()).create().await.unwrap();
    // Of the same id, which is found before anything is unpacked: the task keeps its own.
    for other in [good, damaged] {
        let taken = from(&bed, "c", &runtime, other).create().await.map(drop).unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists, "{taken:?}");
    }
    eventually("the other image is removed", || images(&bed) == 1).await;
    task.start("").await.unwrap();
    task.end().await;
    assert_eq!(images(&bed), 0);
    finish(bed).await;
}
