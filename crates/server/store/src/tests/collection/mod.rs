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
use crate::{Labels, NewIngest, Node, NodeKind, Store, StoreError};

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

/// What was noted for it may be taken, so that it does not know what is kept.
#[tokio::test]
async fn a_collection_that_has_failed_removes_nothing_more_and_does_not_hold_up_the_next_one() {
    let dir = directory();
    let store = open(dir.path());
    let ns = namespace("ns");
    for reference in ["v", "w"] {
        let reference = reference.to_owned();
        let (expected, lease) = (None, None);
        let expires_at = SystemTime::UNIX_EPOCH;
        let stale = NewIngest { reference, total: 0, expected, lease, expires_at };
        store.begin_ingest(&ns, stale).await.unwrap();
    }
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let stale = collection.next_piece(2);
    // No container can be removed.
    let damaged = vec![Node::new(NodeKind::Container, ns.as_str(), "c")];
    let failed = collection.remove(damaged).await;
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
