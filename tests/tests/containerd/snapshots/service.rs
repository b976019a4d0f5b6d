//! The calls about snapshots, in containerd's words.

use gantry_api::containerd::{
    event_types::{SnapshotCommit, SnapshotPrepare, SnapshotRemove},
    from_any,
    introspection::PluginsRequest,
    leases::{CreateRequest, DeleteRequest, ListResourcesRequest},
    namespaces::DeleteNamespaceRequest,
    snapshots::{
        CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest,
        PrepareSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
    },
    types::Envelope,
};
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use super::{Snapshots, own_files};
use crate::{
    Bed, assert_refused,
    content::{KEEPER, keep, leased},
    events::{next, subscribe},
    of,
};

async fn event<M: prost::Name + Default>(events: &mut Streaming<Envelope>, topic: &str) -> M {
    let envelope = next(events).await;
    assert_eq!((&*envelope.namespace, &*envelope.topic), ("ns", topic));
    from_any(&envelope.event.unwrap()).unwrap().unwrap()
}

#[tokio::test]
async fn a_snapshot_is_prepared_committed_and_removed() {
    let Some(mut bed) = Bed::start().await else { return };
    let mut events = subscribe(&bed, &["topic~=\"^/snapshot/\""]).await;
    let sn = Snapshots::overlayfs(&bed);
    let mounts = sn.prepare("a", "").await.unwrap();
    assert_eq!(mounts[0].options, ["rw", "rbind"]);
    std::fs::write(own_files(&mounts).join("file"), "content").unwrap();
    assert_eq!(sn.mounts("a").await.unwrap(), mounts);
    let counted = sn.usage("a").await.unwrap();
    assert!(counted.inodes == 2 && counted.size > 0, "{counted:?}");
    let active = sn.stat("a").await.unwrap();
    assert_eq!((active.kind(), &*active.name, &*active.parent), (Kind::Active, "a", ""));
    sn.commit("a", "A").await.unwrap();
    let committed = sn.stat("A").await.unwrap();
    assert_eq!((committed.kind(), &*committed.name), (Kind::Committed, "A"));
    assert!(committed.created_at.is_some() && committed.created_at == committed.updated_at);
    // Some file systems have allocated more before it was synced.
    assert_eq!(sn.usage("A").await.unwrap().inodes, 2);
    sn.view("v", "A").await.unwrap();
    sn.prepare("b", "A").await.unwrap();
    sn.remove("v").await.unwrap();
    let (key, snapshotter) = ("b".to_owned(), "overlayfs".to_owned());
    let first: SnapshotPrepare = event(&mut events, "/snapshot/prepare").await;
    assert_eq!((&*first.key, &*first.parent, &*first.snapshotter), ("a", "", "overlayfs"));
    let commit: SnapshotCommit = event(&mut events, "/snapshot/commit").await;
    assert_eq!((&*commit.key, &*commit.name), ("a", "A"));
    // There is none of a view that is made.
    let second: SnapshotPrepare = event(&mut events, "/snapshot/prepare").await;
    assert_eq!(second, SnapshotPrepare { key, parent: "A".to_owned(), snapshotter });
    let removed: SnapshotRemove = event(&mut events, "/snapshot/remove").await;
    assert_eq!((&*removed.key, &*removed.snapshotter), ("v", "overlayfs"));
    drop(events);

    bed.server.kill().await;
    bed.server.start_again().await;
    let sn = Snapshots::overlayfs(&bed);
    assert_eq!(sn.stat("A").await.unwrap(), committed);
    for key in ["b", "A"] {
        sn.remove(key).await.unwrap();
    }
    let request = CleanupRequest { snapshotter: "overlayfs".to_owned() };
    bed.snapshots().cleanup(of("ns", request)).await.unwrap();
    assert_eq!((sn.left("snapshots"), sn.left("trash")), (vec![], vec![]));
    bed.server.finish().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_containerds_words() {
    let Some(bed) = Bed::start().await else { return };
    for (snapshotter, what) in [("overlayfs", "active"), ("native", "snapshot")] {
        let sn = Snapshots { snapshotter, ..Snapshots::overlayfs(&bed) };
        let id = |mounts: &[gantry_api::containerd::types::Mount]| {
            let files = own_files(mounts);
            files.iter().filter_map(|part| part.to_str()?.parse::<u64>().ok()).next_back().unwrap()
        };
        let a = id(&sn.prepare("a", "").await.unwrap());
        let taken = "snapshot \"a\": already exists";
        assert_refused(sn.prepare("a", "").await, Code::AlreadyExists, taken);
        assert_refused(sn.view("a", "").await, Code::AlreadyExists, taken);
        let nothing = "snapshot x does not exist: not found";
        assert_refused(sn.mounts("x").await, Code::NotFound, nothing);
        assert_refused(sn.commit("x", "c").await, Code::NotFound, nothing);
        assert_refused(sn.remove("x").await, Code::NotFound, nothing);
        assert_refused(sn.usage("x").await, Code::NotFound, nothing);
        assert_refused(sn.stat("x").await, Code::NotFound, nothing);
        let no_parent = "parent snapshot nope does not exist: not found";
        assert_refused(sn.prepare("z", "nope").await, Code::NotFound, no_parent);
        assert_refused(sn.view("z", "nope").await, Code::NotFound, no_parent);
        let wrong = format!(
            "failed to create snapshot: parent \"ns/{a}/a\" is not committed snapshot: invalid argument"
        );
        assert_refused(sn.prepare("z", "a").await, Code::InvalidArgument, &wrong);
        sn.commit("a", "A").await.unwrap();
        let wrong = format!(
            "failed to get {what} mount: requested snapshot ns/{a}/A not active or view: failed precondition"
        );
        assert_refused(sn.mounts("A").await, Code::FailedPrecondition, &wrong);
        sn.view("v", "A").await.unwrap();
        let refused = sn.commit("v", "V").await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().ends_with("/v\" is not active: failed precondition"),
            "{refused}"
        );
        let child = "cannot remove snapshot with child: failed precondition";
        assert_refused(sn.remove("A").await, Code::FailedPrecondition, child);
        assert_eq!(sn.prepare("", "").await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(sn.left("snapshots").len(), 2, "nothing is left of what was refused");
    }
    for (snapshotter, words) in [
        ("", "snapshotter argument missing: invalid argument"),
        ("nope", "snapshotter not loaded: nope: invalid argument"),
    ] {
        let sn = Snapshots { snapshotter, ..Snapshots::overlayfs(&bed) };
        assert_refused(sn.prepare("a", "").await, Code::InvalidArgument, words);
        assert_refused(sn.stat("a").await, Code::InvalidArgument, words);
    }
    let request = StatSnapshotRequest { snapshotter: "native".to_owned(), key: "A".to_owned() };
    let nowhere = bed.snapshots().stat(tonic::Request::new(request)).await;
    let words = "namespace is required: failed precondition";
    assert_refused(nowhere, Code::FailedPrecondition, words);
    let words = "namespace \"ns\" must be empty, but it still has snapshots on \"native\" snapshotter, \
                 snapshots on \"overlayfs\" snapshotter: failed precondition";
    let request = DeleteNamespaceRequest { name: "ns".to_owned() };
    let kept = bed.namespaces().delete(tonic::Request::new(request)).await;
    assert_refused(kept, Code::FailedPrecondition, words);
    // The rebase of containerd 2.2, which nothing here says that it does.
    let sn = Snapshots::overlayfs(&bed);
    sn.prepare("r", "").await.unwrap();
    let request = CommitSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: "r".to_owned(),
        name: "R".to_owned(),
        parent: "A".to_owned(),
        ..Default::default()
    };
    let refused = bed.snapshots().commit(of("ns", request)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    bed.server.finish().await;
}

#[tokio::test]
async fn names_are_a_namespaces_own() {
    let Some(bed) = Bed::start().await else { return };
    let here = Snapshots::overlayfs(&bed);
    let there = Snapshots { namespace: "other", ..here };
    let mounts = here.prepare("a", "").await.unwrap();
    here.commit("a", "A").await.unwrap();
    let nothing = "snapshot A does not exist: not found";
    assert_refused(there.stat("A").await, Code::NotFound, nothing);
    let no_parent = "parent snapshot A does not exist: not found";
    assert_refused(there.prepare("a", "A").await, Code::NotFound, no_parent);
    assert_ne!(there.prepare("a", "").await.unwrap(), mounts);
    there.commit("a", "A").await.unwrap();
    there.remove("A").await.unwrap();
    here.stat("A").await.unwrap();
    bed.server.finish().await;
}

async fn list(bed: &Bed, filters: &[&str]) -> Vec<Vec<String>> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let request = ListSnapshotsRequest { snapshotter: "overlayfs".to_owned(), filters };
    let mut stream = bed.snapshots().list(of("ns", request)).await.unwrap().into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message.info.into_iter().map(|info| info.name).collect());
    }
    messages
}

async fn update(bed: &Bed, labels: &[(&str, &str)], paths: &[&str]) -> Info {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let info = Info { name: "k000".to_owned(), labels: labels.collect(), ..Info::default() };
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        info: Some(info),
        update_mask: Some(FieldMask { paths }),
    };
    let updated = bed.snapshots().update(of("ns", request)).await.unwrap();
    updated.into_inner().info.unwrap()
}

#[tokio::test]
async fn snapshots_are_listed_by_hundreds_and_by_their_labels() {
    let Some(bed) = Bed::start().await else { return };
    assert_eq!(list(&bed, &[]).await, Vec::<Vec<String>>::new());
    // At the same time: each waits for the disk.
    keep(&bed, "ns").await;
    let mut making = JoinSet::new();
    for number in 0..101 {
        let mut client = bed.snapshots();
        making.spawn(async move {
            let (snapshotter, key) = ("overlayfs".to_owned(), format!("k{number:03}"));
            let request = PrepareSnapshotRequest { snapshotter, key, ..Default::default() };
            client.prepare(leased("ns", KEEPER, request)).await.unwrap();
        });
    }
    making.join_all().await;
    let all: Vec<_> = (0..101).map(|number| format!("k{number:03}")).collect();
    assert_eq!(list(&bed, &[]).await, [&all[..100], &all[100..]]);
    let set = update(&bed, &[("a.b/c", "1"), ("d", "2")], &["labels.a.b/c"]).await;
    assert_eq!(set.labels, [("a.b/c".to_owned(), "1".to_owned())].into());
    assert_ne!(set.updated_at, set.created_at);
    Snapshots::overlayfs(&bed).commit("k001", "K001").await.unwrap();
    Snapshots::overlayfs(&bed).view("v", "K001").await.unwrap();
    assert_eq!(list(&bed, &["kind==committed"]).await, [["K001"]]);
    assert_eq!(list(&bed, &["kind==view"]).await, [["v"]]);
    assert_eq!(list(&bed, &["parent==K001", "labels.\"a.b/c\"==1"]).await, [["k000", "v"]]);
    assert_eq!(list(&bed, &["name==k002,kind==active"]).await, [["k002"]]);
    assert_eq!(update(&bed, &[], &[]).await.labels, [].into());
    let (snapshotter, filters) = ("overlayfs".to_owned(), vec!["kind==".to_owned()]);
    let request = ListSnapshotsRequest { snapshotter, filters };
    let wrong = bed.snapshots().list(of("ns", request)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_lease_keeps_what_is_made_with_it() {
    let Some(bed) = Bed::start().await else { return };
    let under = |key: &str, target: &str, lease: &str| {
        let labels = match target {
            "" => [].into(),
            target => [("containerd.io/snapshot.ref".to_owned(), target.to_owned())].into(),
        };
        let (snapshotter, key) = ("overlayfs".to_owned(), key.to_owned());
        let request = PrepareSnapshotRequest { snapshotter, key, labels, ..Default::default() };
        leased("ns", lease, request)
    };
    let none = bed.snapshots().prepare(under("a", "", "l")).await;
    assert_refused(none, Code::NotFound, "lease does not exist: not found");
    for id in ["l", "m"] {
        let request = CreateRequest { id: id.to_owned(), ..Default::default() };
        bed.leases().create(of("ns", request)).await.unwrap();
    }
    let kept = async |lease: &str| {
        let request = ListResourcesRequest { id: lease.to_owned() };
        let found = bed.leases().list_resources(of("ns", request)).await.unwrap();
        let found = found.into_inner().resources.into_iter();
        found.map(|resource| (resource.r#type, resource.id)).collect::<Vec<_>>()
    };
    let of_snapshot = |key: &str| vec![("snapshots/overlayfs".to_owned(), key.to_owned())];
    bed.snapshots().prepare(under("a", "A", "l")).await.unwrap();
    assert_eq!(kept("l").await, of_snapshot("a"));
    let sn = Snapshots::overlayfs(&bed);
    sn.commit("a", "A").await.unwrap();
    // What the other client wants is there: it goes on with that.
    let again = bed.snapshots().prepare(under("b", "A", "m")).await;
    assert_refused(again, Code::AlreadyExists, "target snapshot \"A\": already exists");
    assert_eq!(kept("m").await, of_snapshot("A"));
    for id in ["l", "m"] {
        let request = DeleteRequest { id: id.to_owned(), sync: false };
        bed.leases().delete(of("ns", request)).await.unwrap();
    }
    bed.server.finish().await;
}

#[tokio::test]
async fn the_plugins_say_where_the_files_are() {
    let Some(bed) = Bed::start().await else { return };
    let filters = vec!["type==io.containerd.snapshotter.v1".to_owned()];
    let answer = bed.introspection().plugins(PluginsRequest { filters }).await.unwrap();
    for plugin in answer.into_inner().plugins {
        let root = bed.server.root().join("snapshots").join(&plugin.id);
        assert_eq!(plugin.exports["root"], root.to_str().unwrap());
        assert_eq!(plugin.platforms[0].os, "linux");
        // What the kernel and the file system here can.
        let can = |capability: &String| plugin.id == "overlayfs" && capability == "remap-ids";
        assert!(plugin.init_err.is_none() && plugin.capabilities.iter().all(can), "{plugin:?}");
    }
    bed.server.finish().await;
}
