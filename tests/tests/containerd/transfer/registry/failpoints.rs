//! The server dies at each step of a pull in turn. The same pull succeeds then, what it answered for is whole, and when
//! the image goes nothing is left of either pull.

use std::{fs, path::Path};

use gantry_api::containerd::{
    content::ListStatusesRequest,
    images::DeleteImageRequest,
    leases::{DeleteRequest, ListRequest},
    snapshots::StatSnapshotRequest,
    types::transfer::OciRegistry,
};
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{Runtime, Server, eventually, variants};
use tonic::{Code, Status};

use super::{
    super::{left, target},
    Kind, Registry, any_name, archive, import, named, pull, reference, transfer,
};
use crate::{Bed, content::info, of};

/// Each is reached while an image is pulled and unpacked.
const POINTS: [Point; 19] = [
    Point::ServerTransferLeased,
    Point::ServerIngestBegun,
    Point::ServerIngestMade,
    Point::ServerBlobSynced,
    Point::ServerBlobPlaced,
    Point::ServerBlobRecorded,
    Point::ServerPartFetched,
    Point::ServerReferencesLabelled,
    Point::ServerSnapshotMade,
    Point::ServerSnapshotRecorded,
    Point::ServerEntryUnpacked,
    Point::ServerLayerUnpacked,
    Point::ServerSnapshotSynced,
    Point::ServerSnapshotCommitted,
    Point::ServerLayerLabelled,
    Point::ServerConfigurationLabelled,
    Point::ServerImageNamed,
    Point::ServerTransferReleased,
    // By the collection that removes what the image was.
    Point::ServerPieceForgotten,
];

#[tokio::test]
async fn a_server_may_die_at_each_step_of_a_pull() {
    let Some(variant) = variants::find("failpoints") else { return };
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let armed = tempfile::tempdir().unwrap();
    let setup = Server::setup(Runtime::Runc).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut bed) = Bed::start_with(setup).await else { return };
    let image = archive::docker(bed.server.work(), &["a"]);
    import(&bed, "other", &image, &any_name(false)).await.unwrap();
    let from = reference(&registry.host(), "a:v1");
    let pushed = named("docker.io/library/a:latest");
    transfer(&bed, "other", &pushed, &from).await.unwrap();
    remove(&mut bed, "other", &pushed.name).await;
    only_the_root_is_left(&bed).await;
    let layers = archive::layers(bed.server.work());
    for point in POINTS {
        let file = armed.path().join(point.name());
        fs::write(&file, "").unwrap();
        while let Err(error) = pull(&bed, "ns", &from).await {
            revive(&mut bed, &error).await;
        }
        // The server may have died after its answer.
        if let Err(error) = target(&bed, "ns", &from.reference).await {
            revive(&mut bed, &error).await;
        }
        is_whole(&bed, &from, &layers).await;
        remove(&mut bed, "ns", &from.reference).await;
        assert!(!file.exists(), "{point:?} was not reached");
        only_the_root_is_left(&bed).await;
    }
    bed.server.finish().await;
}

/// The image, what it refers to, and the snapshots of its layers.
async fn is_whole(bed: &Bed, from: &OciRegistry, layers: &[Vec<u8>]) {
    let manifest = target(bed, "ns", &from.reference).await.unwrap();
    let labels = info(bed, "ns", &manifest.digest).await.unwrap().labels;
    for part in ["config", "l.0", "l.1"] {
        let digest = &labels[&format!("containerd.io/gc.ref.content.{part}")];
        info(bed, "ns", digest).await.unwrap();
    }
    for count in 1..=layers.len() {
        let key = archive::chain_id(&layers[..count]);
        let stat = StatSnapshotRequest { snapshotter: "overlayfs".to_owned(), key };
        bed.snapshots().stat(of("ns", stat)).await.unwrap();
    }
    let snapshots = bed.server.root().join("snapshots/overlayfs/snapshots");
    for (name, text) in archive::LAYERS {
        let found = entries(&snapshots).into_iter().any(|number| {
            let file = snapshots.join(number).join("fs").join(name);
            fs::read_to_string(file).is_ok_and(|found| found == text)
        });
        assert!(found, "{name}");
    }
}

/// Removes the image, and the leases of pulls whose servers have died, which would end after a day.
async fn remove(bed: &mut Bed, namespace: &str, name: &str) {
    let request = of(namespace, ListStatusesRequest::default());
    let writes = bed.content().list_statuses(request).await.unwrap().into_inner().statuses;
    assert!(writes.is_empty(), "{writes:?}");
    loop {
        match forget(bed, namespace, name).await {
            Ok(()) => break,
            Err(error) => revive(bed, &error).await,
        }
    }
    assert_eq!(left(bed, namespace).await, Vec::<String>::new());
}

async fn forget(bed: &Bed, namespace: &str, name: &str) -> Result<(), Status> {
    let leases = bed.leases().list(of(namespace, ListRequest::default())).await?.into_inner();
    for lease in leases.leases {
        bed.leases().delete(of(namespace, DeleteRequest { id: lease.id, sync: false })).await?;
    }
    let image = DeleteImageRequest { name: name.to_owned(), sync: true, target: None };
    match bed.images().delete(of(namespace, image)).await {
        Err(error) if error.code() != Code::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn revive(bed: &mut Bed, error: &Status) {
    assert!(
        [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal].contains(&error.code()),
        "{error:?}"
    );
    bed.server.kill().await;
    bed.server.start_again().await;
}

/// Neither a blob, nor a write, a snapshot, or a mount. The trash is emptied in the background.
async fn only_the_root_is_left(bed: &Bed) {
    let root = bed.server.root();
    let of_snapshots = |part: &str| entries(&root.join("snapshots/overlayfs").join(part));
    eventually("nothing is left", || {
        files(&root.join("content")) == 0
            && of_snapshots("snapshots").is_empty()
            && of_snapshots("trash").is_empty()
    })
    .await;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bed.server.work().to_str().unwrap()));
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}
