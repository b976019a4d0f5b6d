//! Whether a collection is worth its while.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::Store;

/// After so many changes, one of them may have left something without a reference: a label was changed, or something
/// was made that nobody refers to. As containerd's `mutation_threshold`.
const MANY_CHANGES: usize = 100;

/// What was changed since somebody asked.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    changes: AtomicUsize,
    likely: Notify,
}

impl Garbage {
    /// Something has changed.
    pub(crate) fn changed(&self) {
        if self.changes.fetch_add(1, Ordering::Relaxed) + 1 == MANY_CHANGES {
            self.likely.notify_one();
        }
    }

    /// Something was deleted.
    pub(crate) fn released(&self) {
        self.likely.notify_one();
    }
}

impl Store {
    /// Waits until something was deleted, or much was changed, since the last call returned.
    pub async fn garbage(&self) {
        let garbage = &self.0.garbage;
        garbage.likely.notified().await;
        garbage.changes.store(0, Ordering::Relaxed);
    }
}
