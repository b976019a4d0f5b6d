//! Why something is kept.

use std::time::{Duration, SystemTime};

use gantry_api::containerd::{
    containers::DeleteContainerRequest,
    event_types::SnapshotRemove,
    from_any,
    snapshots::{PrepareSnapshotRequest, StatSnapshotRequest},
};
use gantry_tests::patiently;
use tonic::Code;

use super::{EXPIRE, files, keep, lease, put, relabel, release, there};
use crate::{
    Bed, container,
    content::{
        leased, offset,
        session::{Session, write_at},
    },
    events::{next, subscribe},
    of,
};

const FLAT: &str = "containerd.io/gc.flat";
const ROOT: &str = "containerd.io/gc.root";

#[tokio::test]
async fn leases_keep_what_they_name_and_what_that_refers_to() {
    let Some(bed) = Bed::start().await else { return };
    lease(&bed, "ns", "l", &[]).await;
    let leaf = put(&bed, "ns", "l", b"leaf", &[]).await.unwrap();
    let middle = put(&bed, "ns", "l", b"middle", &[&leaf]).await.unwrap();
    let top = put(&bed, "ns", "l", b"top", &[&middle]).await.unwrap();
    let all = [&*leaf, &middle, &top];
    lease(&bed, "ns", "deep", &[]).await;
    keep(&bed, "ns", "deep", "content", &top).await;
    release(&bed, "ns", "l").await.unwrap();
    assert_eq!(there(&bed, "ns", &all).await, [true, true, true]);
    lease(&bed, "ns", "flat", &[(FLAT, "x")]).await;
    keep(&bed, "ns", "flat", "content", &middle).await;
    release(&bed, "ns", "deep").await.unwrap();
    assert_eq!(there(&bed, "ns", &all).await, [false, true, false]);
    release(&bed, "ns", "flat").await.unwrap();
    assert_eq!(there(&bed, "ns", &all).await, [false, false, false]);
    assert_eq!(files(&bed), 0);
    bed.server.finish().await;
}

#[tokio::test]
async fn labels_and_containers_keep_blobs() {
    let Some(bed) = Bed::start().await else { return };
    lease(&bed, "ns", "l", &[]).await;
    let mut blobs = Vec::new();
    for data in [b"rooted", b"of-ctr", b"b-refs", b"remain"] {
        blobs.push(put(&bed, "ns", "l", data, &[]).await.unwrap());
    }
    let [rooted, of_container, back, _] = &blobs[..] else { unreachable!("as many as data") };
    relabel(&bed, "ns", rooted, &[(ROOT, "now")]).await;
    relabel(&bed, "ns", back, &[("containerd.io/gc.bref.container.x", "c")]).await;
    let mut holder = container("c");
    let label = "containerd.io/gc.ref.content.x".to_owned();
    holder.labels = [(label, of_container.clone())].into();
    bed.create("ns", holder).await.unwrap();
    release(&bed, "ns", "l").await.unwrap();
    let all: Vec<_> = blobs.iter().map(String::as_str).collect();
    assert_eq!(there(&bed, "ns", &all).await, [true, true, true, false]);
    relabel(&bed, "ns", rooted, &[]).await;
    // Without a call that waits for it.
    let request = DeleteContainerRequest { id: "c".to_owned() };
    bed.containers().delete(of("ns", request)).await.unwrap();
    nothing_is_left(&bed).await;
    bed.server.finish().await;
}

/// There is no event of a blob that is collected.
async fn nothing_is_left(bed: &Bed) {
    let collected = async {
        while files(bed) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("a collection", collected).await;
}

#[tokio::test]
async fn a_namespace_keeps_nothing_of_another_one() {
    let Some(bed) = Bed::start().await else { return };
    for namespace in ["ns", "other"] {
        lease(&bed, namespace, "l", &[]).await;
        put(&bed, namespace, "l", b"abc", &[]).await.unwrap();
    }
    let blob = put(&bed, "ns", "l", b"", &[]).await.unwrap();
    lease(&bed, "other", "m", &[]).await;
    keep(&bed, "other", "m", "content", &blob).await;
    assert_eq!(files(&bed), 2);
    release(&bed, "ns", "l").await.unwrap();
    assert_eq!(there(&bed, "ns", &[&blob]).await, [false]);
    assert_eq!(files(&bed), 1, "the other one has one of them");
    release(&bed, "other", "l").await.unwrap();
    assert_eq!(files(&bed), 0);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_lease_that_ends_keeps_nothing() {
    let Some(bed) = Bed::start().await else { return };
    let end = SystemTime::now() + Duration::from_secs(2);
    lease(&bed, "ns", "l", &[(EXPIRE, &crate::leases::rfc3339(end))]).await;
    let blob = put(&bed, "ns", "l", b"abc", &[]).await.unwrap();
    assert_eq!(there(&bed, "ns", &[&blob]).await, [true]);
    nothing_is_left(&bed).await;
    assert!(SystemTime::now() >= end, "not before");
    assert_eq!(there(&bed, "ns", &[&blob]).await, [false]);
    bed.server.finish().await;
}

#[tokio::test]
async fn writes_go_with_their_lease_unless_somebody_has_them() {
    let Some(bed) = Bed::start().await else { return };
    for id in ["l", "m"] {
        lease(&bed, "ns", id, &[]).await;
    }
    let begin = async |lease: &str, reference: &str| {
        let to = |stream| leased("ns", lease, stream);
        let mut session = Session::try_begin(bed.content(), to, reference).await.unwrap();
        session.ask(write_at(0, b"abc")).await.unwrap();
        session
    };
    begin("l", "left").await.end().await;
    begin("l", "added").await.end().await;
    keep(&bed, "ns", "m", "ingests", "added").await;
    let held = begin("l", "held").await;
    release(&bed, "ns", "l").await.unwrap();
    let left = async |reference| match offset(&bed, "ns", reference).await {
        Ok(offset) => Some(offset),
        Err(error) => {
            assert_eq!(error.code(), Code::NotFound, "{error}");
            None
        }
    };
    assert_eq!((left("left").await, left("added").await), (None, Some(3)));
    assert_eq!(left("held").await, Some(3));
    held.end().await;
    release(&bed, "ns", "m").await.unwrap();
    assert_eq!((left("added").await, left("held").await), (None, None));
    assert_eq!(files(&bed), 0);
    bed.server.finish().await;
}

#[tokio::test]
async fn snapshots_go_and_it_is_told() {
    let Some(bed) = Bed::start().await else { return };
    let mut snapshots = bed.snapshots();
    lease(&bed, "ns", "l", &[]).await;
    for key in ["kept", "lost"] {
        let request = PrepareSnapshotRequest {
            snapshotter: "native".to_owned(),
            key: key.to_owned(),
            ..PrepareSnapshotRequest::default()
        };
        snapshots.prepare(leased("ns", "l", request)).await.unwrap();
    }
    let mut holder = container("c");
    holder.snapshotter = "native".to_owned();
    holder.snapshot_key = "kept".to_owned();
    bed.create("ns", holder).await.unwrap();
    let mut events = subscribe(&bed, &["topic==\"/snapshot/remove\""]).await;
    release(&bed, "ns", "l").await.unwrap();
    let event = next(&mut events).await;
    assert_eq!(event.namespace, "ns");
    let told = from_any::<SnapshotRemove>(&event.event.unwrap()).unwrap().unwrap();
    assert_eq!((&*told.snapshotter, &*told.key), ("native", "lost"));
    let mut is_there = async |key: &str| {
        let request = StatSnapshotRequest { snapshotter: "native".to_owned(), key: key.to_owned() };
        snapshots.stat(of("ns", request)).await.is_ok()
    };
    assert!(is_there("kept").await && !is_there("lost").await);
    let directories = bed.server.root().join("snapshots/native/snapshots");
    assert_eq!(std::fs::read_dir(directories).unwrap().count(), 1);
    bed.server.finish().await;
}

#[tokio::test]
async fn what_nothing_refers_to_goes_when_a_server_starts() {
    let Some(mut bed) = Bed::start().await else { return };
    lease(&bed, "ns", "l", &[]).await;
    put(&bed, "ns", "l", b"kept", &[]).await.unwrap();
    let lost = put(&bed, "ns", "l", b"lost", &[]).await.unwrap();
    relabel(&bed, "ns", &lost, &[(ROOT, "now")]).await;
    release(&bed, "ns", "l").await.unwrap();
    assert_eq!(files(&bed), 1);
    // A change of labels alone is nothing that calls for a collection.
    relabel(&bed, "ns", &lost, &[]).await;
    bed.server.kill().await;
    bed.server.start_again().await;
    nothing_is_left(&bed).await;
    bed.server.finish().await;
}
