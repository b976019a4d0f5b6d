//! The server dies at each step of a snapshot in turn. What was answered is there then, a call that is made again
//! succeeds or says that it was done, and no directory is left over.

use std::fs;

use gantry_api::containerd::snapshots::Kind;
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{Runtime, Server, eventually, variants};
use tonic::{Code, Status};

use super::{Snapshots, own_files};
use crate::Bed;

/// Each is reached in the life of a snapshot.
const POINTS: [Point; 6] = [
    Point::ServerSnapshotMade,
    Point::ServerSnapshotRecorded,
    Point::ServerSnapshotSynced,
    Point::ServerSnapshotCommitted,
    Point::ServerSnapshotForgotten,
    Point::ServerSnapshotSetAside,
];

#[tokio::test]
async fn a_server_may_die_at_each_step_of_a_snapshot() {
    let Some(variant) = variants::find("failpoints") else { return };
    let armed = tempfile::tempdir().unwrap();
    let setup = Server::setup(Runtime::Runc).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut bed) = Bed::start_with(setup).await else { return };
    for snapshotter in ["native", "overlayfs"] {
        let sn = Snapshots { snapshotter, ..Snapshots::overlayfs(&bed) };
        let base = sn.prepare("made", "").await.unwrap();
        fs::write(own_files(&base).join("base"), "base").unwrap();
        sn.commit("made", "base").await.unwrap();
        for point in POINTS {
            let file = armed.path().join(point.name());
            fs::write(&file, "").unwrap();
            live(&mut bed, snapshotter).await;
            assert!(!file.exists(), "{point:?} was not reached");
            only_the_base_is_left(&bed, snapshotter).await;
        }
    }
    bed.server.finish().await;
}

/// A snapshot comes and goes.
async fn live(bed: &mut Bed, snapshotter: &'static str) {
    loop {
        match of(bed, snapshotter).prepare("a", "base").await {
            Ok(_) => break,
            Err(error) if error.code() == Code::AlreadyExists => break,
            Err(error) => revive(bed, snapshotter, &error).await,
        }
    }
    let own = own_files(&of(bed, snapshotter).mounts("a").await.unwrap());
    assert_eq!(own.join("base").exists(), snapshotter == "native");
    fs::write(own.join("file"), "content").unwrap();
    loop {
        match of(bed, snapshotter).commit("a", "A").await {
            Ok(()) => break,
            Err(error) if error.code() == Code::AlreadyExists => break,
            Err(error) => revive(bed, snapshotter, &error).await,
        }
    }
    let sn = of(bed, snapshotter);
    assert_eq!(sn.stat("A").await.unwrap().kind(), Kind::Committed);
    assert!(sn.stat("a").await.is_err());
    assert!(sn.usage("A").await.unwrap().inodes > 1);
    assert_eq!(fs::read_to_string(own.join("file")).unwrap(), "content");
    loop {
        match of(bed, snapshotter).remove("A").await {
            Ok(()) => break,
            Err(error) if error.code() == Code::NotFound => break,
            Err(error) => revive(bed, snapshotter, &error).await,
        }
    }
    // The server may have died after its answer.
    if let Err(error) = of(bed, snapshotter).stat("base").await {
        revive(bed, snapshotter, &error).await;
    }
    assert!(of(bed, snapshotter).stat("A").await.is_err());
}

fn of<'a>(bed: &'a Bed, snapshotter: &'static str) -> Snapshots<'a> {
    Snapshots { snapshotter, ..Snapshots::overlayfs(bed) }
}

/// The server that has died begins again.
async fn revive(bed: &mut Bed, snapshotter: &'static str, error: &Status) {
    assert!(
        [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal].contains(&error.code()),
        "{error:?}"
    );
    bed.server.kill().await;
    bed.server.start_again().await;
    of(bed, snapshotter).stat("base").await.unwrap();
}

/// The trash is emptied in the background.
async fn only_the_base_is_left(bed: &Bed, snapshotter: &'static str) {
    let sn = of(bed, snapshotter);
    assert_eq!(sn.left("snapshots").len(), 1, "a directory without a record");
    eventually("the trash is empty", || sn.left("trash").is_empty()).await;
}
