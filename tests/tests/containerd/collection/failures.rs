//! A file that cannot be removed.

use std::fs;

use gantry_api::containerd::{
    images::{CreateImageRequest, Image},
    snapshots::PrepareSnapshotRequest,
    types::Descriptor,
};
use tonic::Code;

use super::{EXPIRE, files, lease, put, release};
use crate::{
    Bed,
    content::leased,
    events::{next, subscribe},
    of,
};

/// Of a piece of all kinds, everything but that file goes, and it is told. The file is removed by the next server.
#[tokio::test]
async fn a_file_that_cannot_be_removed_is_all_that_stays() {
    let Some(mut bed) = Bed::start().await else { return };
    lease(&bed, "ns", "l", &[]).await;
    put(&bed, "ns", "l", b"goes", &[]).await.unwrap();
    let stays = put(&bed, "ns", "l", b"stays", &[]).await.unwrap();
    let request = PrepareSnapshotRequest {
        snapshotter: "native".to_owned(),
        key: "lost".to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    bed.snapshots().prepare(leased("ns", "l", request)).await.unwrap();
    let filters = ["topic==\"/images/delete\"", "topic==\"/snapshot/remove\""];
    let mut events = subscribe(&bed, &filters).await;
    let media_type = "application/octet-stream".to_owned();
    let digest = stays.clone();
    let target = Descriptor { media_type, digest, size: 5, ..Descriptor::default() };
    let expired = [(EXPIRE.to_owned(), "2020-01-01T00:00:00Z".to_owned())];
    let (name, labels) = ("expired".to_owned(), expired.into());
    let image = Image { name, labels, target: Some(target), ..Image::default() };
    let request = CreateImageRequest { image: Some(image), source_date_epoch: None };
    bed.images().create(of("ns", request)).await.unwrap();
    let hex = stays.strip_prefix("sha256:").unwrap();
    let file = bed.server.root().join("content/blobs/sha256").join(hex);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let failed = release(&bed, "ns", "l").await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Unknown, "gc failed"));
    for topic in ["/images/delete", "/snapshot/remove"] {
        assert_eq!(next(&mut events).await.topic, topic);
    }
    let native = bed.server.root().join("snapshots/native");
    for directory in ["snapshots", "trash"] {
        assert_eq!(fs::read_dir(native.join(directory)).unwrap().count(), 0, "{directory}");
    }
    assert_eq!(files(&bed), 1);
    // Nobody knows of it, so that nothing is wrong with the next collection.
    lease(&bed, "ns", "l", &[]).await;
    release(&bed, "ns", "l").await.unwrap();
    drop(events);
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "stays").unwrap();
    bed.server.kill().await;
    bed.server.start_again().await;
    lease(&bed, "ns", "l", &[]).await;
    release(&bed, "ns", "l").await.unwrap();
    assert_eq!(files(&bed), 0);
    bed.server.finish().await;
}
