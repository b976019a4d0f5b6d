//! What a server finds of an earlier one that was killed. That it may be killed anywhere is tried end to end.

use std::{fs, time::SystemTime};

use gantry_store::Labels;

use super::{Bed, digest, namespace};

#[tokio::test]
async fn files_of_which_nothing_is_known_are_removed() {
    let mut bed = Bed::new().await;
    let blob = bed.put(b"kept").await;
    drop(bed.writer("kept").await.unwrap());
    let orphans = [bed.blob(&digest(b"orphan")), bed.ingest("orphan")];
    let foreign = bed.blob(&blob).with_file_name("notes");
    for path in orphans.iter().chain([&foreign]) {
        fs::write(path, b"orphan").unwrap();
    }
    // After a close in order there are none, and nobody looks in the same boot.
    bed.restart(true, 1).await;
    assert!(orphans.iter().all(|path| path.exists()));
    bed.restart(false, 1).await;
    assert!(!orphans.iter().any(|path| path.exists()), "{orphans:?}");
    assert!(foreign.exists() && bed.ingest("kept").exists());
    assert_eq!(bed.get(&blob).await.unwrap(), b"kept");
}

/// Nobody syncs the removal of a file.
#[tokio::test]
async fn a_file_that_a_power_cut_brings_back_is_removed() {
    let mut bed = Bed::new().await;
    let blob = bed.put(b"removed").await;
    let (at, beside) = (bed.blob(&blob), bed.blob(&blob).with_file_name("beside"));
    fs::copy(&at, &beside).unwrap();
    bed.content.delete(&namespace("ns"), &blob, None).await.unwrap();
    fs::rename(&beside, &at).unwrap();
    bed.restart(true, 2).await;
    assert!(!at.exists());
}

/// A server that stops does not wait until all of them are removed.
#[tokio::test]
async fn files_that_a_collection_has_not_come_to_are_removed_by_the_next_server() {
    let mut bed = Bed::new().await;
    let mut blobs = Vec::new();
    for number in 0..40_u8 {
        blobs.push(bed.put(&[number]).await);
    }
    let mut collection = bed.content.store().collect(SystemTime::now()).await.unwrap().unwrap();
    let nodes = collection.next_piece(100);
    let piece = bed.content.remove_records(&mut collection, nodes).await.unwrap();
    collection.end().await.unwrap();
    assert_eq!(piece.removed().len(), 40);
    let locked = bed.content.0.blobs.lock_free(blobs.clone()).await;
    let removing = tokio::spawn(piece.remove_files());
    // On this thread: it waits for a lock then.
    tokio::task::yield_now().await;
    let closing = tokio::spawn({
        let content = bed.content.clone();
        async move { content.close().await }
    });
    while !bed.content.0.order.is_closing() {
        tokio::task::yield_now().await;
    }
    drop(locked);
    removing.await.unwrap().unwrap();
    closing.await.unwrap();
    let left = |bed: &Bed| blobs.iter().filter(|blob| bed.blob(blob).exists()).count();
    assert_eq!(left(&bed), 40 - 32);
    let epoch = bed.content.0.epoch;
    bed.restart(true, 1).await;
    assert_eq!((left(&bed), bed.content.0.epoch), (0, epoch), "what is kept is as whole as it was");
}

#[tokio::test]
async fn a_write_without_a_file_begins_anew() {
    let mut bed = Bed::new().await;
    let mut writer = bed.expecting("w", 3, None).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    drop(writer);
    // As if it had been renamed, and nothing recorded.
    fs::rename(bed.ingest("w"), bed.blob(&digest(b"abc"))).unwrap();
    bed.restart(false, 1).await;
    assert!(!bed.blob(&digest(b"abc")).exists());
    let status = bed.content.status(&namespace("ns"), "w").await.unwrap();
    assert_eq!((status.offset, status.updated_at), (0, status.ingest.started_at));
    let mut writer = bed.writer("w").await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    writer.commit(3, None, Labels::new()).await.unwrap();
}
