//! Records of snapshots.

use tempfile::TempDir;

use super::{namespace, open};
use crate::{
    CommittedSnapshot, Kind, LABEL_TARGET, Labels, NewSnapshot, Resource, Snapshot, SnapshotKind,
    SnapshotUsage, Store, StoreError, filter::Filters,
};

const OVERLAYFS: &str = "overlayfs";

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn new(key: &str, parent: &str) -> NewSnapshot {
    NewSnapshot {
        snapshotter: OVERLAYFS.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        is_view: false,
        labels: Labels::new(),
        lease: None,
    }
}

/// Adds it with this directory.
async fn add(
    store: &Store,
    ns: &str,
    new: NewSnapshot,
    directory: u64,
) -> Result<Snapshot, StoreError> {
    let below = store.snapshot_foundation(&namespace(ns), &new).await?;
    store.add_snapshot(&namespace(ns), new, directory, below.first().copied()).await
}

fn committed(key: &str, name: &str, directory: u64) -> CommittedSnapshot {
    CommittedSnapshot {
        snapshotter: OVERLAYFS.to_owned(),
        key: key.to_owned(),
        directory,
        name: name.to_owned(),
        labels: Labels::new(),
        usage: SnapshotUsage { inodes: directory, bytes: 4096 },
        lease: None,
    }
}

async fn commit(
    store: &Store,
    ns: &str,
    key: &str,
    name: &str,
    directory: u64,
) -> Result<Snapshot, StoreError> {
    let ns = namespace(ns);
    store.committable_snapshot(&ns, OVERLAYFS, key, name).await?;
    store.commit_snapshot(&ns, committed(key, name, directory)).await
}

/// Adds and commits it.
async fn layer(store: &Store, ns: &str, name: &str, parent: &str, directory: u64) {
    add(store, ns, new("made", parent), directory).await.unwrap();
    commit(store, ns, "made", name, directory).await.unwrap();
}

async fn remove(store: &Store, ns: &str, key: &str) -> Result<u64, StoreError> {
    let removed = store.remove_snapshot(&namespace(ns), OVERLAYFS, key, None).await;
    removed.map(|snapshot| snapshot.directory)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: Kind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

#[tokio::test]
async fn snapshots_are_made_on_committed_ones_and_go_before_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let active = add(&store, "ns", new("made", ""), 3).await.unwrap();
    assert_eq!((active.kind, active.directory), (SnapshotKind::Active, 3));
    let refused = add(&store, "ns", new("b", "made"), 4).await;
    let message = "failed to create snapshot: parent \"ns/3/made\" is not committed snapshot: invalid argument";
    assert_refused(refused, Kind::InvalidArgument, message);
    let a = commit(&store, "ns", "made", "a", 3).await.unwrap();
    assert_eq!((a.kind, a.usage), (SnapshotKind::Committed, committed("", "", 3).usage));
    assert!(a.created_at > active.created_at, "as in containerd");
    assert_refused(
        store.snapshot(&ns, OVERLAYFS, "made").await,
        Kind::NotFound,
        "snapshot made does not exist: not found",
    );
    layer(&store, "ns", "b", "a", 4).await;
    let view = NewSnapshot { is_view: true, ..new("v", "b") };
    let view = add(&store, "ns", view, 7).await.unwrap();
    let chain = store.snapshot_chain(&ns, OVERLAYFS, "v").await.unwrap();
    assert_eq!((chain.snapshot, chain.below), (view, vec![4, 3]));
    assert_eq!(store.last_snapshot_directory().await.unwrap(), 7);

    let message =
        "failed to commit snapshot: snapshot \"ns/7/v\" is not active: failed precondition";
    assert_refused(commit(&store, "ns", "v", "c", 7).await, Kind::FailedPrecondition, message);
    let message = "snapshot \"b\": already exists";
    assert_refused(commit(&store, "ns", "v", "b", 7).await, Kind::AlreadyExists, message);
    assert_refused(add(&store, "ns", new("b", ""), 8).await, Kind::AlreadyExists, message);
    let missing = add(&store, "ns", new("x", "nope"), 8).await;
    let message = "parent snapshot nope does not exist: not found";
    assert_refused(missing, Kind::NotFound, message);
    let message = "cannot remove snapshot with child: failed precondition";
    for key in ["a", "b"] {
        assert_refused(remove(&store, "ns", key).await, Kind::FailedPrecondition, message);
    }
    for (key, directory) in [("v", 7), ("b", 4), ("a", 3)] {
        assert_eq!(remove(&store, "ns", key).await.unwrap(), directory);
        let message = format!("snapshot {key} does not exist: not found");
        assert_refused(remove(&store, "ns", key).await, Kind::NotFound, &message);
    }
    assert_eq!(store.last_snapshot_directory().await.unwrap(), 7, "no number is used twice");
    for bad in ["", &"k".repeat(4097)] {
        let refused = add(&store, "ns", new(bad, ""), 9).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidArgument);
    }
}

/// What was looked at before a directory was made, or counted, is another one by now.
#[tokio::test]
async fn another_snapshot_of_the_same_name_is_not_taken_for_the_first() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    layer(&store, "ns", "a", "", 1).await;
    let below = store.snapshot_foundation(&ns, &new("b", "a")).await.unwrap();
    assert_eq!(below, [1]);
    remove(&store, "ns", "a").await.unwrap();
    layer(&store, "ns", "a", "", 2).await;
    let refused = store.add_snapshot(&ns, new("b", "a"), 3, Some(1)).await;
    assert_refused(refused, Kind::NotFound, "parent snapshot a does not exist: not found");
    assert_eq!(store.snapshot_directories(OVERLAYFS).await.unwrap(), [2]);
    assert_eq!(remove(&store, "ns", "a").await.unwrap(), 2, "it has no child");
    add(&store, "ns", new("c", ""), 4).await.unwrap();
    let refused = store.commit_snapshot(&ns, committed("c", "d", 3)).await;
    assert_refused(refused, Kind::NotFound, "snapshot c does not exist: not found");
}

#[tokio::test]
async fn names_are_a_namespaces_and_a_snapshotters_own() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    layer(&store, "a", "x", "", 1).await;
    layer(&store, "b", "x", "", 2).await;
    let native =
        |parent: &str| NewSnapshot { snapshotter: "native".to_owned(), ..new("x", parent) };
    add(&store, "a", native(""), 3).await.unwrap();
    let none = NewSnapshot { key: "y".to_owned(), ..native("only") };
    layer(&store, "a", "only", "", 4).await;
    let message = "parent snapshot only does not exist: not found";
    assert_refused(add(&store, "a", none, 5).await, Kind::NotFound, message);
    assert_eq!(store.snapshot_directories("native").await.unwrap(), [3]);
    assert_eq!(store.snapshot_directories(OVERLAYFS).await.unwrap(), [4, 1, 2]);
    let message = "namespace \"a\" must be empty, but it still has snapshots on \"native\" snapshotter, \
                   snapshots on \"overlayfs\" snapshotter: failed precondition";
    let kept = store.delete_namespace(&namespace("a")).await;
    assert_refused(kept, Kind::FailedPrecondition, message);
    remove(&store, "b", "x").await.unwrap();
    store.delete_namespace(&namespace("b")).await.unwrap();
}

#[tokio::test]
async fn labels_are_updated_and_snapshots_listed_by_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    layer(&store, "ns", "a", "", 1).await;
    let labelled = NewSnapshot { labels: labels(&[("n", "1"), ("e", "")]), ..new("b", "a") };
    assert_eq!(add(&store, "ns", labelled, 2).await.unwrap().labels, labels(&[("n", "1")]));
    let update = async |new: &[(&str, &str)], mask: &[&str]| {
        let mask = mask.iter().map(|path| (*path).to_owned()).collect();
        store.update_snapshot(&ns, OVERLAYFS, "b", labels(new), mask).await
    };
    let set = update(&[("k.a/b", "v"), ("other", "x")], &["labels.k.a/b"]).await.unwrap();
    assert_eq!(set.labels, labels(&[("k.a/b", "v"), ("n", "1")]));
    assert!(set.updated_at > set.created_at);
    let unset = update(&[], &["labels.n"]).await.unwrap();
    assert_eq!(unset.labels, labels(&[("k.a/b", "v")]));
    let message = "cannot update \"parent\" field on snapshot \"b\": invalid argument";
    assert_refused(update(&[], &["parent"]).await, Kind::InvalidArgument, message);
    assert_eq!(update(&[("l", "m")], &[]).await.unwrap().labels, labels(&[("l", "m")]));
    let long = update(&[("k", &"v".repeat(4096))], &[]).await.unwrap_err();
    assert_eq!(long.kind(), Kind::InvalidArgument);

    let keys = async |filter: &str| {
        let filters = Filters::parse(&[filter]).unwrap();
        let page = store.snapshot_page(&ns, OVERLAYFS, &filters, None).await.unwrap();
        page.snapshots.into_iter().map(|snapshot| snapshot.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("").await, ["a", "b"]);
    for (filter, key) in [
        ("kind==committed", "a"),
        ("kind==active", "b"),
        ("parent==a", "b"),
        ("name==a", "a"),
        ("labels.l==m", "b"),
    ] {
        assert_eq!(keys(filter).await, [key], "{filter}");
    }
    let (all, after) = (Filters::default(), Some("a".to_owned()));
    let rest = store.snapshot_page(&ns, OVERLAYFS, &all, after).await.unwrap();
    assert_eq!(rest.snapshots.len(), 1);
}

#[tokio::test]
async fn leases_keep_what_is_made_with_them_and_a_target_is_not_made_twice() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let leased = |key: &str| NewSnapshot { lease: Some("l".to_owned()), ..new(key, "") };
    let message = "lease does not exist: not found";
    assert_refused(add(&store, "ns", leased("a"), 1).await, Kind::NotFound, message);
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    add(&store, "ns", leased("a"), 1).await.unwrap();
    let kept = async || {
        let resources = store.resource_page(&ns, "l", None).await.unwrap().resources;
        let id = |Resource { kind, id }| {
            assert_eq!(kind, "snapshots/overlayfs");
            id
        };
        resources.into_iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(kept().await, ["a"]);
    let to = CommittedSnapshot { lease: Some("l".to_owned()), ..committed("a", "A", 1) };
    store.commit_snapshot(&ns, to).await.unwrap();
    assert_eq!(kept().await, ["A"]);
    let target = labels(&[(LABEL_TARGET, "A")]);
    let again = add(&store, "ns", NewSnapshot { labels: target, ..new("x", "") }, 2).await;
    assert_refused(again, Kind::AlreadyExists, "target snapshot \"A\": already exists");
    let lease = Some("l".to_owned());
    store.remove_snapshot(&ns, OVERLAYFS, "A", lease).await.unwrap();
    assert_eq!(kept().await, [""; 0]);
    // What is found is kept; what has gone meanwhile is not.
    add(&store, "ns", new("b", ""), 3).await.unwrap();
    assert!(store.lease_snapshot(&ns, OVERLAYFS, "b", "l").await.unwrap());
    assert!(!store.lease_snapshot(&ns, OVERLAYFS, "A", "l").await.unwrap());
    let unknown = store.lease_snapshot(&ns, OVERLAYFS, "b", "none").await;
    assert_refused(unknown, Kind::NotFound, message);
    assert_eq!(kept().await, ["b"]);
}
