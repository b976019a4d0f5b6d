//! Collections of files.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use gantry_store::{Collection, Labels, Node, Removed, filter::Filters};
use tokio::task::JoinSet;

use super::{Bed, digest, namespace};
use crate::{Content, ContentError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many are removed at a time.
const PIECE: usize = 3;

/// Collects to the end; what was removed.
async fn collect(content: &Content, now: SystemTime) -> Result<Vec<Removed>, ContentError> {
    let Some(mut collection) = content.store().collect(now).await? else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    loop {
        let nodes = collection.next_piece(PIECE);
        if nodes.is_empty() {
            collection.end().await?;
            return Ok(removed);
        }
        removed.extend(remove(content, &mut collection, nodes).await?);
    }
}

/// Removes records and files; which.
async fn remove(
    content: &Content,
    collection: &mut Collection,
    nodes: Vec<Node>,
) -> Result<Vec<Removed>, ContentError> {
    let piece = content.remove_records(collection, nodes).await?;
    let removed = piece.removed().to_vec();
    piece.remove_files().await?;
    Ok(removed)
}

fn root() -> Labels {
    Labels::from([("containerd.io/gc.root".to_owned(), "now".to_owned())])
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_given_up_after_a_day() {
    let bed = Bed::new().await;
    drop(bed.writer("left").await.unwrap());
    let held = bed.writer("held").await.unwrap();
    let began = SystemTime::now();
    let given_up = async |now| collect(&bed.content, now).await.unwrap().len();
    assert_eq!(given_up(began + DAY - Duration::from_secs(60)).await, 0);
    assert_eq!(given_up(began + DAY).await, 1);
    assert!(!bed.ingest("left").exists() && bed.ingest("held").exists());
    drop(held);
    assert_eq!(given_up(began + DAY).await, 1);
    let page = bed.content.statuses(&namespace("ns"), &Filters::default(), None).await.unwrap();
    assert_eq!(page.statuses, []);
}

#[tokio::test]
async fn files_go_with_the_last_namespace_that_keeps_them() {
    let bed = Bed::new().await;
    let other = namespace("other");
    let blob = bed.put(b"abc").await;
    let shared = bed.content.writer(&other, "w".to_owned(), 0, Some(blob.clone()), None).await;
    let now = SystemTime::now();
    // The write of another namespace needs it.
    assert_eq!(collect(&bed.content, now).await.unwrap(), []);
    shared.unwrap().commit(0, None, root()).await.unwrap();
    let ns = namespace("ns");
    let gone = Removed::Blob { namespace: ns, digest: blob.clone(), is_last: false };
    assert_eq!(collect(&bed.content, now).await.unwrap(), [gone]);
    assert!(bed.blob(&blob).exists() && bed.get(&blob).await.is_err());

    let store = bed.content.store();
    store.update_blob(&other, &blob, Labels::new(), Vec::new()).await.unwrap();
    let gone = Removed::Blob { namespace: other, digest: blob.clone(), is_last: true };
    assert_eq!(collect(&bed.content, now).await.unwrap(), [gone]);
    assert!(!bed.blob(&blob).exists());
}

#[tokio::test]
async fn a_blob_that_is_written_again_has_its_file() {
    let bed = Bed::new().await;
    let blob = bed.put(b"abc").await;
    drop(bed.writer("stale").await.unwrap());
    let tomorrow = SystemTime::now() + DAY;
    let mut collection = bed.content.store().collect(tomorrow).await.unwrap().unwrap();
    // The write: from now on it is noted what is written.
    let nodes = collection.next_piece(1);
    assert_eq!(remove(&bed.content, &mut collection, nodes).await.unwrap().len(), 1);
    let nodes = collection.next_piece(PIECE);
    bed.content.delete(&namespace("ns"), &blob, None).await.unwrap();
    bed.put(b"abc").await;
    assert_eq!(remove(&bed.content, &mut collection, nodes).await.unwrap(), []);
    assert!(collection.end().await.unwrap(), "another one will remove it");
    assert_eq!(bed.get(&blob).await.unwrap(), b"abc");
}

/// A file that cannot be removed holds up no other, and no client that begins a write again.
#[tokio::test]
async fn a_file_that_stays_is_the_only_one() {
    let mut bed = Bed::new().await;
    let [stays, goes] = [bed.put(b"stays").await, bed.put(b"goes").await];
    drop(bed.writer("stale").await.unwrap());
    fs::remove_file(bed.blob(&stays)).unwrap();
    fs::create_dir(bed.blob(&stays)).unwrap();
    let tomorrow = SystemTime::now() + DAY;
    let mut collection = bed.content.store().collect(tomorrow).await.unwrap().unwrap();
    let nodes = collection.next_piece(PIECE);
    let piece = bed.content.remove_records(&mut collection, nodes).await.unwrap();
    collection.end().await.unwrap();
    // Whoever is to be told can be, before a file is removed.
    assert_eq!(piece.removed().len(), 3);
    assert!(bed.blob(&goes).exists() && bed.ingest("stale").exists());
    let locked = bed.content.0.blobs.lock(&goes).await;
    let removing = tokio::spawn(piece.remove_files());
    while bed.ingest("stale").exists() {
        tokio::task::yield_now().await;
    }
    while matches!(bed.writer("stale").await, Err(ContentError::Locked { .. })) {
        tokio::task::yield_now().await;
    }
    drop(locked);
    let error = removing.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, ContentError::Io { path, .. } if *path == bed.blob(&stays)),
        "{error}"
    );
    assert!(!bed.blob(&goes).exists());
    // The next server tries again, and has not to look at what is kept.
    fs::remove_dir(bed.blob(&stays)).unwrap();
    fs::write(bed.blob(&stays), b"stays").unwrap();
    let epoch = bed.content.0.epoch;
    bed.restart(true, 1).await;
    assert_eq!((bed.blob(&stays).exists(), bed.content.0.epoch), (false, epoch));
}

/// Two callers want the same blob, and the first one has it.
#[tokio::test]
async fn a_blob_that_another_caller_holds_the_write_of_is_kept_by_the_lease_of_who_is_told_of_it() {
    let bed = Bed::new().await;
    let (ns, store) = (namespace("ns"), bed.content.store().clone());
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    let _held = bed.writer("w").await.unwrap();
    let blob = digest(b"abc");
    let want = async || {
        let (reference, expected) = ("w".to_owned(), Some(blob.clone()));
        let lease = Some("l".to_owned());
        bed.content.writer(&ns, reference, 0, expected, lease).await.err().unwrap()
    };
    let locked = want().await;
    assert!(matches!(locked, ContentError::Locked { .. }), "{locked}");
    bed.put(b"abc").await;
    let exists = want().await;
    assert!(matches!(exists, ContentError::Exists(_)), "{exists}");
    assert_eq!(collect(&bed.content, SystemTime::now()).await.unwrap(), []);
    assert_eq!(bed.get(&blob).await.unwrap(), b"abc");
}

/// Writers of the same blobs beside a collector: what is kept can be read, and nothing else is there.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_a_collector() {
    const WRITERS: u8 = 4;
    let bed = Bed::new().await;
    let mut writing = JoinSet::new();
    for number in 0..WRITERS {
        let content = bed.content.clone();
        writing.spawn(async move {
            let ns = namespace(if number % 2 == 0 { "ns" } else { "other" });
            for round in 0..40_u8 {
                let data = [round % 5];
                let writer = content.writer(&ns, format!("{number}"), 0, None, None).await;
                let mut writer = writer.unwrap();
                writer.write(data.to_vec()).await.unwrap();
                let kept = writer.commit(0, None, root()).await;
                assert!(matches!(kept, Ok(_) | Err(ContentError::Exists(_))), "{kept:?}");
                let blob = digest(&data);
                if kept.is_ok() {
                    // A neighbour in the namespace may have given it up already.
                    let _ = super::read(&content, ns.name(), &blob, 0, None).await;
                }
                let given_up = content.store().update_blob(&ns, &blob, Labels::new(), Vec::new());
                let _ = given_up.await;
            }
            let kept = [100 + number];
            let writer =
                content.writer(&ns, "kept".to_owned() + &number.to_string(), 0, None, None);
            let mut writer = writer.await.unwrap();
            writer.write(kept.to_vec()).await.unwrap();
            writer.commit(0, None, root()).await.unwrap();
        });
    }
    let mut collected = 0;
    while !writing.is_empty() {
        collected += collect(&bed.content, SystemTime::now()).await.unwrap().len();
        while let Some(one) = writing.try_join_next() {
            one.unwrap();
        }
    }
    collect(&bed.content, SystemTime::now()).await.unwrap();
    assert!(collected > 0);
    for number in 0..WRITERS {
        let ns = if number % 2 == 0 { "ns" } else { "other" };
        let kept = [100 + number];
        let read = super::read(&bed.content, ns, &digest(&kept), 0, None).await;
        assert_eq!(read.unwrap(), kept);
    }
    let dir = bed.blob(&digest(b"")).parent().unwrap().to_owned();
    assert_eq!(fs::read_dir(dir).unwrap().count(), usize::from(WRITERS));
}
