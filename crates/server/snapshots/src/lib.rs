//! Snapshots as containerd's clients know them: file systems that are made on top of each other. Their records are in
//! `gantry-store`; their files are here, in directories (`layout.rs` says where).
//!
//! # Snapshotters
//! `overlayfs` keeps in a directory what a snapshot changes; who uses it mounts an overlay of it and of its parents'
//! directories. `native` keeps in each directory all files: a new snapshot is a copy of its parent. It works on any
//! file system, and shares data where the file system can (`FICLONE`).
//!
//! # Order
//! ```text
//! prepare:  the store is asked whether it can be -> directory made, synced -> record -> answered
//! commit:   file system synced -> usage counted -> record: a committed one instead of the active one -> answered
//! remove:   record away -> directory moved to the trash -> answered -> removed
//! ```
//! A directory has a number, which its record has, and which no other one ever gets: a commit renames no directory. A
//! server that dies leaves directories without a record, at worst, and what is in the trash: the next one removes them.
//! What a record of a committed snapshot stands for is on the disk, so that no power cut leaves empty files.
//!
//! # Threads
//! Short work on files and long work (copies, counts, syncs) have threads of their own, apart from those of the
//! state directory and of content. One at a time empties the trash.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod collection;
mod copy;
mod error;
mod id_labels;
mod layout;
mod making;
mod mounts;
mod recovery;
mod snapshotter;
mod support;
#[cfg(test)]
mod tests;
mod trash;
mod usage;
mod walk;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use error::SnapshotError;
use gantry_disk::{MeasuredThreads, OwnFiles};
use gantry_store::Store;
pub use layout::DIR;
use layout::Layout;
use making::Making;
pub use snapshotter::Snapshotter;
use snapshotter::{Flavour, Shared};
use tokio::sync::Mutex;

/// All snapshotters. Clones are the same. What a call has begun has to be done to its end: a call that changes
/// something and whose future is dropped may leave a directory for the next server to remove.
#[derive(Clone)]
pub struct Snapshots {
    overlayfs: Snapshotter,
    native: Snapshotter,
}

impl Snapshots {
    /// Opens what is in the directory `root`, or makes it. `maps_ids`: whether mounts of overlayfs there can have mapped
    /// ids.
    ///
    /// # Errors
    /// If a file or the store fails, or there is no thread. It is no error if the host cannot have a snapshotter, see
    /// [`Snapshotter::problem`].
    pub async fn open(root: &Path, store: Store, maps_ids: bool) -> Result<Self, SnapshotError> {
        let threads = || OwnFiles::new().map_err(|error| SnapshotError::NoThread(Arc::new(error)));
        let (short, long) = (threads()?, threads()?);
        let last = Arc::new(AtomicU64::new(store.last_snapshot_directory().await?));
        let open = async |flavour: Flavour| {
            let layout = Layout::new(root, flavour);
            let options = {
                let layout = layout.clone();
                short.run(move |_| flavour.open(&layout)).await?
            };
            let greatest = {
                let layout = layout.clone();
                short.run(move |_| recovery::greatest(&layout)).await?
            };
            last.fetch_max(greatest, Ordering::SeqCst);
            let (store, short, long) = (store.clone(), short.clone(), long.clone());
            let last = Arc::clone(&last);
            let (making, emptying) = (Making::default(), Mutex::default());
            let snapshotter = Snapshotter(Arc::new(Shared {
                flavour,
                layout,
                options,
                maps_ids: maps_ids && flavour == Flavour::Overlayfs,
                store,
                short,
                long,
                last,
                making,
                emptying,
            }));
            snapshotter.set_strays_aside().await?;
            snapshotter.empty_trash();
            Ok::<_, SnapshotError>(snapshotter)
        };
        let (overlayfs, native) = (open(Flavour::Overlayfs).await?, open(Flavour::Native).await?);
        Ok(Self { overlayfs, native })
    }

    /// The threads that wait for the disk, those of long work among them.
    pub fn measure(&self) -> MeasuredThreads {
        // Both snapshotters have the same.
        let mut all = self.native.0.short.measure();
        all += self.native.0.long.measure();
        all
    }

    /// The snapshotter of this name.
    ///
    /// # Errors
    /// If there is none, or the host cannot have it.
    pub fn named(&self, name: &str) -> Result<Snapshotter, SnapshotError> {
        if name.is_empty() {
            return Err(SnapshotError::NoSnapshotter);
        }
        let found = self.all().into_iter().find(|snapshotter| snapshotter.name() == name);
        let found = found.ok_or_else(|| SnapshotError::UnknownSnapshotter(name.to_owned()))?;
        match found.problem() {
            Some(why) => {
                let (name, why) = (found.name(), why.to_owned());
                Err(SnapshotError::Unusable { name, why })
            }
            None => Ok(found.clone()),
        }
    }

    /// All snapshotters, by their names.
    #[must_use]
    pub fn all(&self) -> [&Snapshotter; 2] {
        [&self.native, &self.overlayfs]
    }
}
