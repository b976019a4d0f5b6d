//! Whether files and records agree.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::ContentError;

/// Whether all changes of files and records were done to their end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Whether no further change is made.
    closed: Arc<RwLock<bool>>,
    found: Arc<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Somebody waits for the changes under way.
    is_closing: AtomicBool,
    is_lost: AtomicBool,
    has_strays: AtomicBool,
}

/// How all changes have left files and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Each file has a record, and each record its file.
    InOrder,
    /// Each record has its file, and there are files without a record.
    WithStrays,
    /// Nobody knows.
    Unknown,
}

/// A change of files and records. One that is dropped before it is done leaves them as they may be.
#[derive(Debug)]
pub(crate) struct Change {
    found: Arc<Found>,
    is_done: bool,
    _not_closed: OwnedRwLockReadGuard<bool>,
}

impl Order {
    pub(crate) async fn begin(&self) -> Result<Change, ContentError> {
        let closed = Arc::clone(&self.closed).read_owned().await;
        if *closed {
            return Err(ContentError::Closed);
        }
        Ok(Change { found: Arc::clone(&self.found), is_done: false, _not_closed: closed })
    }

    /// Whether somebody waits for the changes under way, so that none should take long.
    pub(crate) fn is_closing(&self) -> bool {
        self.found.is_closing.load(Ordering::SeqCst)
    }

    /// Waits for changes under way; how they have left it all.
    pub(crate) async fn close(&self) -> Left {
        self.found.is_closing.store(true, Ordering::SeqCst);
        *self.closed.write().await = true;
        if self.found.is_lost.load(Ordering::SeqCst) {
            Left::Unknown
        } else if self.found.has_strays.load(Ordering::SeqCst) {
            Left::WithStrays
        } else {
            Left::InOrder
        }
    }
}

impl Change {
    /// Files and records agree.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }

    /// Each record has its file, and there are files without a record.
    pub(crate) fn leaves_strays(self) {
        self.found.has_strays.store(true, Ordering::SeqCst);
        self.done();
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.is_done {
            self.found.is_lost.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_that_is_not_done_is_noticed() {
        let order = Order::default();
        order.begin().await.unwrap().done();
        assert!(!order.is_closing());
        assert_eq!(order.close().await, Left::InOrder);
        assert!(order.is_closing());
        assert!(matches!(order.begin().await, Err(ContentError::Closed)));

        let order = Order::default();
        order.begin().await.unwrap().leaves_strays();
        order.begin().await.unwrap().done();
        assert_eq!(order.close().await, Left::WithStrays);

        let order = Order::default();
        order.begin().await.unwrap().leaves_strays();
        drop(order.begin().await.unwrap());
        assert_eq!(order.close().await, Left::Unknown);
    }
}
