//! Snapshots from their making to their end.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use gantry_domain::{Kind, Mount};
use gantry_store::{LABEL_TARGET, Labels, NewSnapshot, SnapshotKind};

use super::{BOTH, Bed, commit, files, is_root, names, namespace, new, prepare, view};
use crate::SnapshotError;

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, SnapshotError>, kind: Kind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

fn mount(kind: &str, source: &str, options: &[&str]) -> Vec<Mount> {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    let (kind, source) = (kind.to_owned(), source.to_owned());
    vec![Mount { kind, source, target: String::new(), options }]
}

#[tokio::test]
async fn mounts_are_those_that_containerd_gives() {
    let bed = Bed::new().await;
    let overlayfs = bed.of("overlayfs");
    let dir = |number: u64, name: &str| {
        let path = bed.path("overlayfs", &format!("snapshots/{number}/{name}"));
        path.to_str().unwrap().to_owned()
    };
    let more = overlayfs.0.options.clone().unwrap_or_default();
    let overlay = |options: &[String]| {
        let options: Vec<_> = more.iter().chain(options).map(String::as_str).collect();
        mount("overlay", "overlay", &options)
    };
    let first = mount("bind", &dir(1, "fs"), &["rw", "rbind"]);
    assert_eq!(prepare(&overlayfs, "a", "").await.unwrap(), first);
    assert_eq!(view(&overlayfs, "e", "").await, mount("bind", &dir(2, "fs"), &["ro", "rbind"]));
    commit(&overlayfs, "a", "A").await.unwrap();
    let second = overlay(&[
        format!("workdir={}", dir(3, "work")),
        format!("upperdir={}", dir(3, "fs")),
        format!("lowerdir={}", dir(1, "fs")),
    ]);
    assert_eq!(prepare(&overlayfs, "b", "A").await.unwrap(), second);
    assert_eq!(view(&overlayfs, "v", "A").await, mount("bind", &dir(1, "fs"), &["ro", "rbind"]));
    commit(&overlayfs, "b", "B").await.unwrap();
    let lower = format!("lowerdir={}:{}", dir(3, "fs"), dir(1, "fs"));
    assert_eq!(view(&overlayfs, "w", "B").await, overlay(&[lower]));
    let message = "failed to get active mount: requested snapshot ns/3/B not active or view: failed precondition";
    let refused = overlayfs.mounts(&namespace(), "B").await;
    assert_refused(refused, Kind::FailedPrecondition, message);

    let native = bed.of("native");
    let dir = |number: u64| {
        let path = bed.path("native", &format!("snapshots/{number}"));
        path.to_str().unwrap().to_owned()
    };
    let first = mount("bind", &dir(6), &["rbind", "rw"]);
    assert_eq!(prepare(&native, "a", "").await.unwrap(), first);
    commit(&native, "a", "A").await.unwrap();
    assert_eq!(view(&native, "v", "A").await, mount("bind", &dir(6), &["rbind", "ro"]));
    let copy = mount("bind", &dir(8), &["rbind", "rw"]);
    assert_eq!(prepare(&native, "b", "A").await.unwrap(), copy);
    assert_eq!(native.mounts(&namespace(), "b").await.unwrap(), copy);
}

#[tokio::test]
async fn keys_are_taken_once_and_parents_are_there() {
    let bed = Bed::new().await;
    for name in BOTH {
        let sn = bed.of(name);
        prepare(&sn, "a", "").await.unwrap();
        let message = "snapshot \"a\": already exists";
        assert_refused(prepare(&sn, "a", "").await, Kind::AlreadyExists, message);
        let message = "parent snapshot p does not exist: not found";
        assert_refused(prepare(&sn, "b", "p").await, Kind::NotFound, message);
        commit(&sn, "a", "A").await.unwrap();
        let target = Labels::from([(LABEL_TARGET.to_owned(), "A".to_owned())]);
        bed.store.create_lease(&namespace(), name, Labels::new()).await.unwrap();
        let again =
            NewSnapshot { labels: target, lease: Some(name.to_owned()), ..new(&sn, "extract", "") };
        let message = "target snapshot \"A\": already exists";
        let refused = sn.prepare(&namespace(), again).await;
        assert_refused(refused, Kind::AlreadyExists, message);
        let kept = bed.store.resource_page(&namespace(), name, None).await.unwrap().resources;
        assert_eq!(kept.iter().map(|kept| &*kept.id).collect::<Vec<_>>(), ["A"]);
        prepare(&sn, "b", "A").await.unwrap();
        let message = "cannot remove snapshot with child: failed precondition";
        let refused = sn.remove(&namespace(), "A", None).await;
        assert_refused(refused, Kind::FailedPrecondition, message);
        let none = sn.usage(&namespace(), "nope").await;
        assert_refused(none, Kind::NotFound, "snapshot nope does not exist: not found");
        assert_eq!(names(&bed.path(name, "snapshots")).len(), 2, "nothing is left of a refusal");
    }
    let named = |name: &str| bed.snapshots.named(name).map(|found| found.name());
    assert_eq!(named("native").unwrap(), "native");
    let message = "snapshotter not loaded: x: invalid argument";
    assert_refused(named("x"), Kind::InvalidArgument, message);
    let message = "snapshotter argument missing: invalid argument";
    assert_refused(named(""), Kind::InvalidArgument, message);
}

#[tokio::test]
async fn the_top_directory_looks_as_the_parents() {
    if !is_root() {
        return;
    }
    let bed = Bed::new().await;
    for name in BOTH {
        let sn = bed.of(name);
        prepare(&sn, "a", "").await.unwrap();
        let top = files(&sn, "a").await;
        assert_eq!(fs::metadata(&top).unwrap().mode() & 0o7777, 0o755);
        chown(&top, Some(1234), Some(5678)).unwrap();
        fs::set_permissions(&top, Permissions::from_mode(0o1777)).unwrap();
        commit(&sn, "a", "A").await.unwrap();
        prepare(&sn, "b", "A").await.unwrap();
        let found = fs::metadata(files(&sn, "b").await).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 5678, 0o1777));
    }
}

#[tokio::test]
async fn a_root_that_no_overlay_can_name_has_the_other_snapshotter() {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("a,b");
    fs::create_dir(&root).unwrap();
    let (_store, snapshots) = super::open(&root, true).await;
    let refused = snapshots.named("overlayfs").map(|found| found.name()).unwrap_err();
    assert_eq!(refused.kind(), Kind::InvalidArgument);
    let message = refused.to_string();
    assert!(message.starts_with("snapshotter not loaded: overlayfs: "), "{message}");
    assert!(message.contains("has a ','"), "{message}");
    prepare(&snapshots.named("native").unwrap(), "a", "").await.unwrap();
}

/// Many at once: each has a directory of its own, and one of those that want the same key gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_the_same_time_do_not_meet() {
    const MANY: usize = 24;
    let bed = Bed::new().await;
    let sn = bed.of("overlayfs");
    let started: Vec<_> = (0..MANY)
        .map(|number| {
            let sn = sn.clone();
            let key = format!("k{}", number / 2);
            tokio::spawn(async move { prepare(&sn, &key, "").await.is_ok() })
        })
        .collect();
    let mut made = 0;
    for started in started {
        made += usize::from(started.await.unwrap());
    }
    assert_eq!(made, MANY / 2);
    sn.cleanup().await.unwrap();
    assert_eq!(names(&bed.path("overlayfs", "snapshots")).len(), MANY / 2);
    for number in 0..MANY / 2 {
        commit(&sn, &format!("k{number}"), &format!("K{number}")).await.unwrap();
        let snapshot = sn.stat(&namespace(), &format!("K{number}")).await.unwrap();
        assert_eq!(snapshot.kind, SnapshotKind::Committed);
    }
}

#[tokio::test]
async fn mounts_have_the_ids_of_the_labels() {
    use std::os::unix::fs::MetadataExt;

    let mut bed = Bed::new().await;
    let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    let labels = || -> Labels {
        let [uids, gids] = ["0:100000:65536", "0:200000:65536"].map(str::to_owned);
        let name = |kind| format!("containerd.io/snapshot/{kind}mapping");
        [(name("uid"), uids), (name("gid"), gids)].into()
    };
    let overlayfs = bed.of("overlayfs");
    let make = async |snapshotter: &crate::Snapshotter, key: &str, parent: &str, labels: Labels| {
        let new = NewSnapshot { labels, ..new(snapshotter, key, parent) };
        snapshotter.prepare(&namespace(), new).await
    };
    let owner = |bed: &Bed, number: &str| {
        let found = bed.path("overlayfs", &format!("snapshots/{number}/fs")).metadata().unwrap();
        (found.uid(), found.gid())
    };
    let mounts = make(&overlayfs, "base", "", labels()).await.unwrap();
    assert_eq!(mounts[0].options, [maps[0], maps[1], "rw", "rbind"]);
    assert_eq!(owner(&bed, "1"), (100_000, 200_000));
    let plain = make(&overlayfs, "plain", "", Labels::new()).await.unwrap();
    assert_eq!(
        (&plain[0].options[..], owner(&bed, "2")),
        (&["rw".into(), "rbind".into()][..], (0, 0))
    );
    overlayfs.commit(&namespace(), "plain", "layer", Labels::new(), None).await.unwrap();
    let upper = make(&overlayfs, "upper", "layer", labels()).await.unwrap();
    assert_eq!(
        (upper[0].kind.as_str(), &upper[0].options[..2]),
        ("overlay", &maps.map(str::to_owned)[..])
    );
    assert_eq!(owner(&bed, "3"), (100_000, 200_000));
    let bad = [("containerd.io/snapshot/uidmapping".to_owned(), "1:1:1".to_owned())].into();
    let error = make(&overlayfs, "bad", "", bad).await.unwrap_err();
    assert_eq!(error.field(), Some("labels"));
    // Whose files are copies has no such mounts.
    let native = bed.of("native");
    assert!(!native.maps_ids());
    let copied = make(&native, "copied", "", labels()).await.unwrap();
    assert_eq!(copied[0].options, ["rbind", "rw"]);
    // That is settled when a snapshot is made, whatever the next server can do: its files have owners that go with that.
    let mounts =
        async |bed: &Bed, key: &str| bed.of("overlayfs").mounts(&namespace(), key).await.unwrap();
    bed.restart_where(false).await;
    assert_eq!(mounts(&bed, "upper").await, upper);
    let unmapped = make(&bed.of("overlayfs"), "unmapped", "", labels()).await.unwrap();
    assert_eq!(unmapped[0].options, ["rw", "rbind"]);
    bed.restart_where(true).await;
    assert_eq!(mounts(&bed, "unmapped").await, unmapped);
    assert_eq!(mounts(&bed, "upper").await, upper);
}

#[tokio::test]
async fn snapshots_are_spread_over_the_disk_where_the_file_system_can() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    let bed = Bed::new().await;
    let other = File::open(bed.dir.path()).unwrap();
    let set = |flags| ioctl_setflags(&other, flags | IFlags::TOPDIR);
    if let Err(why) = ioctl_getflags(&other).and_then(set) {
        eprintln!("skipped: the file system has no such flag: {why}");
        return;
    }
    for snapshotter in BOTH {
        let all = File::open(bed.path(snapshotter, "snapshots")).unwrap();
        assert!(ioctl_getflags(&all).unwrap().contains(IFlags::TOPDIR), "{snapshotter}");
    }
}
