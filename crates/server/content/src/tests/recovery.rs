//! What a server finds of an earlier one that was killed. That it may be killed anywhere is tried end to end.

use std::fs;

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
    // After a close in order there are none, and nobody looks.
    bed.restart(true, 1).await;
    assert!(orphans.iter().all(|path| path.exists()));
    bed.restart(false, 1).await;
    assert!(!orphans.iter().any(|path| path.exists()), "{orphans:?}");
    assert!(foreign.exists() && bed.ingest("kept").exists());
    assert_eq!(bed.get(&blob).await.unwrap(), b"kept");
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
