//! Directories that are being made.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The numbers of directories that may not have a record yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Making(Arc<Mutex<HashSet<u64>>>);

/// A directory that is being made, as long as this is there.
#[derive(Debug)]
pub(crate) struct Made {
    directory: u64,
    all: Making,
}

impl Making {
    pub(crate) fn begin(&self, directory: u64) -> Made {
        self.lock().insert(directory);
        Made { directory, all: self.clone() }
    }

    pub(crate) fn all(&self) -> Vec<u64> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.all.lock().remove(&self.directory);
    }
}
