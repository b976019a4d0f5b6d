//! Calls whose callers go, and servers that are killed: nothing stays mounted, and nothing is worked on.

use std::time::Duration;

use gantry_tests::{eventually, patiently};
use tokio::task::JoinHandle;

use super::*;

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layer that takes minutes, of more than a million files: it has the same names again and again.
async fn endless(bed: &Bed) -> String {
    let tree = directory(bed, "many");
    for number in 0..200 {
        fs::write(tree.join(number.to_string()), "").unwrap();
    }
    let archive = tar(&tree, &["."]);
    let end = archive.iter().rev().take_while(|byte| **byte == 0).count();
    let whole = (archive.len() - end).next_multiple_of(512);
    let frame = through("zstd", &archive[..whole].repeat(10)).await;
    put(bed, "ns", &frame.repeat(600)).await
}

/// Whether a layer can be applied.
async fn works(bed: &Bed) {
    let (tree, target) = (directory(bed, "tree"), directory(bed, "works"));
    fs::write(tree.join("file"), "1").unwrap();
    apply(bed, &tar(&tree, &["."]), LAYER, &[bind(&target, "rw")]).await.unwrap();
    assert_eq!(fs::read(target.join("file")).unwrap(), b"1");
}

/// Has the server apply it to a tree that has to be mounted, and waits until it does.
async fn begin(bed: &Bed, digest: &str) -> JoinHandle<Result<(), Status>> {
    let target = directory(bed, "target");
    let mut mount = bind(&target, "rw");
    mount.options = vec!["bind".to_owned()];
    let diff = Descriptor {
        digest: digest.to_owned(),
        media_type: ZSTD.to_owned(),
        ..Descriptor::default()
    };
    let request = ApplyRequest { diff: Some(diff), mounts: vec![mount], ..Default::default() };
    let mut client = bed.diff();
    let call = tokio::spawn(async move { client.apply(of("ns", request)).await.map(drop) });
    eventually("files appear", || fs::read_dir(&target).unwrap().count() > 3).await;
    call
}

/// Threads of the server that work on layers.
fn threads(bed: &Bed) -> Vec<String> {
    let tasks = format!("/proc/{}/task", bed.server.pid());
    let tasks = fs::read_dir(tasks).unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("layer") || name.starts_with("mounts")).collect()
}

#[tokio::test]
async fn a_call_that_is_cancelled_stops_the_work() {
    let Some(bed) = Bed::start().await else { return };
    let digest = endless(&bed).await;
    let call = begin(&bed, &digest).await;
    call.abort();
    eventually("no thread works on a layer", || threads(&bed).is_empty()).await;
    assert_eq!(mounts_of(&bed), [""; 0]);
    works(&bed).await;
    bed.server.finish().await;
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_no_mount() {
    let Some(mut bed) = Bed::start().await else { return };
    let digest = endless(&bed).await;
    let call = begin(&bed, &digest).await;
    bed.server.kill().await;
    // A mount of a dead thread may end a moment after it.
    let _ = patiently("the call", call).await;
    let work = bed.server.work().to_owned();
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table().contains(work.to_str().unwrap()));
    bed.server.start_again().await;
    let places = bed.server.root().join("mounts");
    for place in fs::read_dir(places).unwrap() {
        assert_eq!(fs::read_dir(place.unwrap().path()).unwrap().count(), 0);
    }
    works(&bed).await;
    bed.server.finish().await;
}

/// More than there are turns.
#[tokio::test]
async fn many_calls_wait_for_their_turns() {
    let Some(bed) = Bed::start().await else { return };
    let tree = directory(&bed, "tree");
    fs::write(tree.join("file"), vec![7; 1 << 20]).unwrap();
    let digest = put(&bed, "ns", &tar(&tree, &["."])).await;
    let calls = (0..24).map(|number| {
        let target = directory(&bed, &format!("target-{number}"));
        let (mount, digest) = (bind(&target, "rw"), digest.clone());
        let mut client = bed.diff();
        tokio::spawn(async move {
            let media_type = LAYER.to_owned();
            let diff = Some(Descriptor { digest, media_type, ..Descriptor::default() });
            let request = ApplyRequest { diff, mounts: vec![mount], ..Default::default() };
            client.apply(of("ns", request)).await.unwrap();
            assert_eq!(fs::metadata(target.join("file")).unwrap().len(), 1 << 20);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(120), call).await.unwrap().unwrap();
    }
    bed.server.finish().await;
}
