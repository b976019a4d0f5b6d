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
    is_lost: Arc<AtomicBool>,
}

/// A change of files and records. One that is dropped before it is done leaves them as they may be.
#[derive(Debug)]
pub(crate) struct Change {
    is_lost: Option<Arc<AtomicBool>>,
    _not_closed: OwnedRwLockReadGuard<bool>,
}

impl Order {
    pub(crate) async fn begin(&self) -> Result<Change, ContentError> {
        let closed = Arc::clone(&self.closed).read_owned().await;
        if *closed {
            return Err(ContentError::Closed);
        }
        Ok(Change { is_lost: Some(Arc::clone(&self.is_lost)), _not_closed: closed })
    }

    /// Waits for changes under way; whether all were done.
    pub(crate) async fn close(&self) -> bool {
        *self.closed.write().await = true;
        !self.is_lost.load(Ordering::SeqCst)
    }
}

impl Change {
    /// Files and records agree.
    pub(crate) fn done(mut self) {
        self.is_lost = None;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(is_lost) = &self.is_lost {
            is_lost.store(true, Ordering::SeqCst);
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
        assert!(order.close().await);
        assert!(matches!(order.begin().await, Err(ContentError::Closed)));

        let order = Order::default();
        drop(order.begin().await.unwrap());
        assert!(!order.close().await);
    }
}
