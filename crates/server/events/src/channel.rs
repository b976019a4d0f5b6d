//! The events of containers in memory, those of `types.API` apart from all others: neither pushes out the
//! other's, and what `types.API` says about missing events is about its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ring::Ring;

pub(crate) struct Channel {
    /// Held for moments only: a reader never waits for a disk.
    pub(crate) ring: Mutex<Ring>,
    /// Events were added that its subscribers may read.
    pub(crate) appended: Notify,
}

impl Channel {
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring: Mutex::new(ring), appended: Notify::new() }
    }

    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
