//! Garbage collection: when what nothing refers to is removed. What that is, and how, is in `gantry-store`.
//!
//! ```text
//! at the start                  100 ms later
//! a deletion, 100 changes       at once, but after a pause of four times what the last collection took, 250 ms to 10 s
//! a call that waits for it      at once: the next collection that begins is that call's, and of all that wait with it
//! none of these                 after ten minutes: something may have expired
//! ```
//! There is one at a time. After one that failed comes another 10 s later.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use gantry_api::containerd::{event_types::SnapshotRemove, images::ImageDelete, to_any, topic};
use gantry_content::ContentError;
use gantry_failpoints::{Point, reach};
use gantry_snapshots::SnapshotError;
use gantry_store::{Removed, Store, StoreError};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tonic::Status;

use super::Surface;

/// The first one does not hold up what else is done at the start.
const AFTER_THE_START: Duration = Duration::from_millis(100);

const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A pause is so many times as long as what it comes after.
const PAUSES: u32 = 4;

/// A collection without a reason: times come, and the clock can be set.
const SOME_TIME: Duration = Duration::from_secs(600);

/// When to try again if one has failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// How many records are removed in one step, after which their files are. Changes by others wait for the records.
const PIECE: usize = 256;

/// Collections that were begun, and that have ended.
pub(super) struct Collections {
    begun: AtomicU64,
    asked: Notify,
    ended: watch::Sender<Ended>,
    counts: Mutex<MeasuredCollections>,
}

/// Collections since the server was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MeasuredCollections {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// Blobs, snapshots and others that were removed.
    pub(crate) removed: u64,
    /// How long the last one took.
    pub(crate) last: Duration,
}

/// Which collections have ended, by number.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    last: u64,
    /// The last one that has not failed.
    last_good: u64,
}

impl Default for Collections {
    fn default() -> Self {
        let (begun, asked) = (AtomicU64::default(), Notify::new());
        let ended = watch::Sender::new(Ended::default());
        Self { begun, asked, ended, counts: Mutex::default() }
    }
}

impl Collections {
    /// Waits for a collection that begins after this call.
    pub(super) async fn wait(&self) -> Result<(), Status> {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        self.asked.notify_one();
        let mut ended = self.ended.subscribe();
        // Further ones may have ended by the time when this is looked at.
        match ended.wait_for(|ended| ended.last >= next).await {
            Ok(ended) if ended.last_good >= next => Ok(()),
            // In containerd's words. The log says more.
            _ => Err(Status::unknown("gc failed")),
        }
    }

    pub(super) fn measure(&self) -> MeasuredCollections {
        *self.counts()
    }

    fn counts(&self) -> MutexGuard<'_, MeasuredCollections> {
        // They are whole after any panic: each is a number.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self, took: Duration, is_good: bool) {
        let mut counts = self.counts();
        counts.last = took;
        let count = if is_good { &mut counts.done } else { &mut counts.failed };
        *count += 1;
    }

    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn end(&self, number: u64, is_good: bool) {
        self.ended.send_modify(|ended| {
            ended.last = number;
            if is_good {
                ended.last_good = number;
            }
        });
    }
}

/// Why a collection has failed.
#[derive(Debug, thiserror::Error)]
enum CollectionError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it has ended without an answer")]
    Bug,
}

impl CollectionError {
    /// Whether there is no other one after it.
    fn is_end(&self) -> bool {
        use StoreError::Closed;
        match self {
            Self::Content(error) => {
                matches!(error, ContentError::Closed | ContentError::Store(Closed))
            }
            Self::Snapshots(error) => matches!(error, SnapshotError::Store(Closed)),
            Self::Store(error) => matches!(error, Closed),
            Self::Bug => false,
        }
    }
}

/// Collects, as long as the server runs.
pub(super) async fn keep(surface: Surface) {
    let (store, collections) = (surface.store().await, &surface.0.collections);
    let (mut pause, mut is_due) = (AFTER_THE_START, true);
    loop {
        tokio::select! {
            () = collections.asked.notified() => {}
            () = until_due(&store, pause, is_due) => {}
        }
        let number = collections.begin();
        let began = Instant::now();
        let collected = tokio::spawn(collect(surface.clone())).await;
        let collected = collected.unwrap_or(Err(CollectionError::Bug));
        let is_good = collected.is_ok();
        collections.measured(began.elapsed(), is_good);
        match collected {
            Ok(is_any_left) => {
                is_due = is_any_left;
                pause = (began.elapsed() * PAUSES).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            }
            Err(error) if error.is_end() => {
                collections.end(u64::MAX, false);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "what nothing refers to cannot be removed; trying again");
                (is_due, pause) = (true, RETRY_AFTER);
            }
        }
        collections.end(number, is_good);
    }
}

/// Not before the pause is over.
async fn until_due(store: &Store, pause: Duration, is_due: bool) {
    sleep(pause).await;
    if !is_due {
        tokio::select! {
            () = store.garbage() => {}
            () = sleep(SOME_TIME) => {}
        }
    }
}

/// A collection from its beginning to its end. Whether something may be left, as it was written meanwhile.
async fn collect(surface: Surface) -> Result<bool, CollectionError> {
    let metadata = surface.0.metadata.wait().await;
    // They are opened here if nobody has asked for them, so that what a server has left is cleared.
    let (content, snapshots) = (metadata.content().await?, metadata.snapshots().await?);
    let found = metadata.store.collect(SystemTime::now()).await?;
    let Some(mut collection) = found else { return Ok(false) };
    reach(Point::ServerCollectionBegun);
    let (mut count, mut has_directories) = (0, false);
    let removed = async {
        loop {
            let nodes = collection.next_piece(PIECE);
            if nodes.is_empty() {
                return Ok::<_, ContentError>(());
            }
            let piece = content.remove_records(&mut collection, nodes).await?;
            let removed = piece.removed();
            count += removed.len();
            surface.0.collections.counts().removed += removed.len() as u64;
            // No other collection finds these. Files come last: they take longest, and can fail.
            publish_images(&surface, removed).await;
            has_directories |= snapshots.set_aside(removed).await;
            publish_snapshots(&surface, removed).await;
            piece.remove_files().await?;
            reach(Point::ServerPieceRemoved);
        }
    };
    let removed = removed.await;
    if has_directories {
        snapshots.empty().await;
    }
    removed?;
    let is_any_left = collection.end().await?;
    tracing::debug!(count, "what nothing referred to is removed");
    Ok(is_any_left)
}

/// Publishes which images were removed. Of content there is no such event, as in containerd.
async fn publish_images(surface: &Surface, removed: &[Removed]) {
    for one in removed {
        if let Removed::Image { namespace, name } = one {
            let event = to_any(&ImageDelete { name: name.clone() });
            surface.publish(namespace, topic::IMAGE_DELETE, event).await;
        }
    }
}

/// Publishes which snapshots were removed.
async fn publish_snapshots(surface: &Surface, removed: &[Removed]) {
    for one in removed {
        if let Removed::Snapshot { namespace, snapshotter, key, .. } = one {
            let event = SnapshotRemove { key: key.clone(), snapshotter: snapshotter.clone() };
            surface.publish(namespace, topic::SNAPSHOT_REMOVE, to_any(&event)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    /// What a caller is answered that has asked while the first collection was under way, if those after it end so.
    async fn answer(ends: &[bool]) -> Result<(), Status> {
        let collections = Collections::default();
        let first = collections.begin();
        let mut waiting = pin!(collections.wait());
        assert!((&mut waiting).now_or_never().is_none());
        collections.end(first, true);
        assert!((&mut waiting).now_or_never().is_none(), "it had begun before");
        for is_good in ends {
            let number = collections.begin();
            collections.end(number, *is_good);
        }
        collections.end(u64::MAX, false);
        waiting.await
    }

    #[tokio::test]
    async fn a_call_is_answered_by_the_collections_that_began_after_it() {
        for good in [&[true][..], &[true, false], &[false, true]] {
            answer(good).await.unwrap();
        }
        for bad in [&[][..], &[false], &[false, false]] {
            assert_eq!(answer(bad).await.unwrap_err().message(), "gc failed");
        }
    }

    #[test]
    fn what_is_closed_is_the_end() {
        let closed = || StoreError::Closed;
        assert!(CollectionError::from(closed()).is_end());
        assert!(CollectionError::from(ContentError::Closed).is_end());
        assert!(CollectionError::from(ContentError::Store(closed())).is_end());
        assert!(CollectionError::from(SnapshotError::Store(closed())).is_end());
        assert!(!CollectionError::from(StoreError::Busy).is_end());
    }
}
