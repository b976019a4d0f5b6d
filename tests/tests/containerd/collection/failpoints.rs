//! The server dies at each step of a collection in turn. What is kept is whole then, and the next server removes the
//! rest.

use std::fs;

use gantry_api::containerd::snapshots::PrepareSnapshotRequest;
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{Runtime, Server, variants};
use tonic::Code;

use super::{files, lease, put, release, there};
use crate::{Bed, content::leased};

const POINTS: [Point; 4] = [
    Point::ServerCollectionBegun,
    Point::ServerPieceForgotten,
    Point::ServerSnapshotSetAside,
    Point::ServerPieceRemoved,
];

/// More than are removed at a time.
const MANY: u8 = 40;

#[tokio::test]
async fn a_server_may_die_at_each_step_of_a_collection() {
    let Some(variant) = variants::find("failpoints") else { return };
    let armed = tempfile::tempdir().unwrap();
    let setup = Server::setup(Runtime::Runc).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut bed) = Bed::start_with(setup).await else { return };
    lease(&bed, "ns", "kept", &[]).await;
    let leaf = put(&bed, "ns", "kept", b"leaf", &[]).await.unwrap();
    let top = put(&bed, "ns", "kept", b"top", &[&leaf]).await.unwrap();
    // A piece is of both kinds, or of one; and there are blobs of which some have no file any more.
    let cases = POINTS.into_iter().flat_map(|point| [(point, 5), (point, 0)]);
    for (point, blobs) in cases.chain([(Point::ServerBlobFilesRemoved, MANY)]) {
        lease(&bed, "ns", "lost", &[]).await;
        for number in 0..blobs {
            put(&bed, "ns", "lost", &[number], &[&leaf]).await.unwrap();
        }
        prepare(&bed).await;
        assert_eq!((files(&bed), directories(&bed)), (2 + usize::from(blobs), 1));
        let file = armed.path().join(point.name());
        fs::write(&file, "").unwrap();
        let died = release(&bed, "ns", "lost").await.unwrap_err();
        assert_ne!(died.code(), Code::NotFound, "{died}");
        assert!(!file.exists(), "{point:?} was not reached");
        bed.server.kill().await;
        bed.server.start_again().await;
        lease(&bed, "ns", "waiting", &[]).await;
        release(&bed, "ns", "waiting").await.unwrap();
        assert_eq!((files(&bed), directories(&bed)), (2, 0), "after {point:?}");
        assert_eq!(there(&bed, "ns", &[&top, &leaf]).await, [true, true]);
    }
    bed.server.finish().await;
}

/// Makes a snapshot under the lease that is lost.
async fn prepare(bed: &Bed) {
    let request = PrepareSnapshotRequest {
        snapshotter: "native".to_owned(),
        key: "k".to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    bed.snapshots().prepare(leased("ns", "lost", request)).await.unwrap();
}

/// Of snapshots.
fn directories(bed: &Bed) -> usize {
    fs::read_dir(bed.server.root().join("snapshots/native/snapshots")).unwrap().count()
}
