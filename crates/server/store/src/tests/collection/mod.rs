//! Collections beside a model: of random graphs, while they are changed, and after ends at any step.

mod attach;
mod layers;
mod life;
mod measure;
mod model;
mod renewal;

use std::time::{Duration, SystemTime};

use life::Life;
use tempfile::TempDir;

use super::{namespace, open};
use crate::{Labels, NewIngest, Node, NodeKind, Store, StoreError, tables::COLLECTION};

/// How many random lives there are.
const LIVES: u64 = 16;

/// A directory in memory, if there is one: nothing is lost by a test that does not end.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

#[tokio::test]
async fn what_is_kept_stays_and_the_rest_goes() {
    for seed in 0..LIVES {
        // The number in the message of a failure has it come again.
        let mut life = Life::begin(seed);
        for _ in 0..6 {
            life.change(24).await;
            life.collect(true).await;
        }
        life.settle().await;
    }
}

#[tokio::test]
async fn a_collection_of_nothing_writes_nothing() {
    let dir = directory();
    let store = open(dir.path());
    assert!(store.collect(SystemTime::now()).await.unwrap().is_none());
    store.create_lease(&namespace("ns"), "l", Labels::new()).await.unwrap();
    assert!(store.collect(SystemTime::now()).await.unwrap().is_none());
    store.close().await;
}

/// Has so many writes that are stale.
async fn begin_stale(store: &Store, references: &[&str]) {
    for reference in references {
        let reference = (*reference).to_owned();
        let (expected, lease) = (None, None);
        let expires_at = SystemTime::UNIX_EPOCH;
        let stale = NewIngest { reference, total: 0, expected, lease, expires_at };
        store.begin_ingest(&namespace("ns"), stale).await.unwrap();
    }
}

/// A step is a change, or a commit.
#[tokio::test]
async fn a_collection_of_one_piece_is_one_change() {
    let dir = directory();
    let store = open(dir.path());
    begin_stale(&store, &["v", "w"]).await;
    let before = store.0.steps.count();
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let all = collection.next_piece(2);
    assert_eq!(collection.remove(all).await.unwrap().len(), 2);
    assert!(!collection.end().await.unwrap());
    assert_eq!(store.0.steps.count(), before + 2);

    // Of several pieces, each is one; from the first one on it is noted what is written.
    begin_stale(&store, &["v", "w", "x"]).await;
    let before = store.0.steps.count();
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let piece = collection.next_piece(1);
    assert_eq!(collection.remove(piece).await.unwrap().len(), 1);
    assert_eq!(store.0.steps.count(), before + 2);
    let renewed = collection.next_piece(1);
    begin_stale(&store, &[&renewed[0].key]).await;
    assert_eq!(collection.remove(renewed).await.unwrap(), []);
    let piece = collection.next_piece(1);
    assert_eq!(collection.remove(piece).await.unwrap().len(), 1);
    assert!(collection.end().await.unwrap(), "another one will remove it");
    assert_eq!(store.0.steps.count(), before + 8);
}

/// Between the mark and the first removal.
#[tokio::test]
async fn what_is_written_before_the_first_piece_has_the_mark_come_again() {
    let dir = directory();
    let store = open(dir.path());
    begin_stale(&store, &["v", "w"]).await;
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let piece = collection.next_piece(1);
    assert_eq!(piece[0].key, "w");
    let expires_at = SystemTime::now() + Duration::from_secs(60);
    let (expected, lease) = (None, None);
    let renewed = NewIngest { reference: "w".to_owned(), total: 0, expected, lease, expires_at };
    store.begin_ingest(&namespace("ns"), renewed).await.unwrap();
    begin_stale(&store, &["x"]).await;
    assert_eq!(collection.remove(piece).await.unwrap(), []);
    let rest = collection.next_piece(10);
    assert_eq!(rest.iter().map(|node| &*node.key).collect::<Vec<_>>(), ["x", "v"]);
    assert_eq!(collection.remove(rest).await.unwrap().len(), 2);
    assert!(!collection.end().await.unwrap());
}

/// What was noted for it may be taken, so that it does not know what is kept.
#[tokio::test]
async fn a_collection_that_has_failed_removes_nothing_more_and_does_not_hold_up_the_next_one() {
    let dir = directory();
    let store = open(dir.path());
    begin_stale(&store, &["u", "v", "w"]).await;
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let first = collection.next_piece(1);
    assert_eq!(collection.remove(first).await.unwrap().len(), 1);
    let note = |transaction: &redb::WriteTransaction| {
        transaction.open_table(COLLECTION)?.insert(("ns", "of no kind", "k"), ())?;
        Ok(())
    };
    store.0.write(0, note).await.unwrap();
    let [second, stale] = [collection.next_piece(1), collection.next_piece(1)];
    let failed = collection.remove(second).await;
    assert!(matches!(failed, Err(StoreError::Damaged { .. })), "{failed:?}");
    let refused = collection.remove(stale).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    // Another one waits for the end of this one.
    let next = tokio::time::timeout(Duration::ZERO, store.collect(SystemTime::now())).await;
    assert!(next.is_err());
    drop(collection);
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let rest = collection.next_piece(2);
    assert_eq!(collection.remove(rest).await.unwrap().len(), 2);
    collection.end().await.unwrap();
}

/// What is removed beside it is told, so that its files are removed, too.
#[tokio::test]
async fn a_record_that_cannot_be_removed_holds_up_no_other() {
    let dir = directory();
    let store = open(dir.path());
    begin_stale(&store, &["v", "w"]).await;
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let mut nodes = collection.next_piece(2);
    nodes.insert(1, Node::new(NodeKind::Blob, "no namespace", "k"));
    assert_eq!(collection.remove(nodes).await.unwrap().len(), 2);
    collection.end().await.unwrap();
}

#[tokio::test]
async fn a_collection_is_due_after_a_deletion_or_many_changes() {
    let dir = directory();
    let store = open(dir.path());
    let ns = namespace("ns");
    for number in 0..99 {
        store.create_lease(&ns, &format!("l{number}"), Labels::new()).await.unwrap();
    }
    assert!(!is_due(&store).await);
    store.create_lease(&ns, "another", Labels::new()).await.unwrap();
    assert!(is_due(&store).await && !is_due(&store).await);
    store.delete_lease(&ns, "another").await.unwrap();
    assert!(is_due(&store).await);
}

/// A notice is there already, or is not.
async fn is_due(store: &Store) -> bool {
    tokio::time::timeout(Duration::ZERO, store.garbage()).await.is_ok()
}
