//! Content as containerd's clients know it: blobs by their digest, and writes of blobs under way. Their
//! records are in `gantry-store`; their bytes are here, in files (`layout.rs` says where).
//!
//! # A write
//! ```text
//! begin:   record of the write -> its file -> what was written before is read for its digest
//! write:   data to the file, and into the digest
//! commit:  size and digest are compared -> file synced -> renamed to its digest -> directory synced
//!          -> record: a blob instead of the write -> answered
//! ```
//! What was answered is on the disk. A server that dies leaves, between the renaming and the record, a file without a
//! record: the next one removes it, and the write begins anew. A write without a file is at offset 0. After
//! a boot all writes under way are at offset 0, as what they had written need not have reached the disk.
//!
//! # One file for all namespaces
//! A blob has one file, which goes with the last namespace that has the blob. A namespace sees the blobs that were
//! written in it. A write that says which digest it expects, while another namespace has that blob, is complete when
//! it begins, and a commit makes the blob this namespace's, too; so it is in containerd unless configured otherwise.
//!
//! # Collection
//! What nothing refers to is removed in pieces ([`Content::remove_records`]): the records of a piece are removed in the
//! store, which knows what is referred to; when that is on the disk, the files are ([`Piece::remove_files`]). Between the
//! two a file is nobody's, as after a deletion, and who is to be told is told. A file's name is only removed while its
//! digest is locked and has no record, so that a blob that was written again meanwhile has its file; one whose digest
//! somebody else has locked comes later. The room that it takes is given back when nothing is locked any more. No removal
//! is synced: what a power cut brings back has no record, and is removed by the first server of the next boot. A server
//! that stops does not remove all files of a piece first, and a file may fail: it notes that there are some without a record.
//!
//! # Damage
//! A blob whose file has not the size that it should have is never read. After a server that was not stopped, each
//! file is read for its digest before it is used for the first time. One that is damaged is dropped from all
//! namespaces, and can be written again.
//!
//! # Threads
//! Files are read and written on threads of their own, apart from those of the state directory: a large blob holds
//! up no task.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod blocking;
mod change;
mod check;
mod collection;
mod commit;
mod error;
mod hash;
mod layout;
mod locks;
mod read;
mod recovery;
mod removal;
mod status;
#[cfg(test)]
mod tests;
mod unique;
mod write;

use std::{path::Path, sync::Arc};

pub use blocking::BlockingReader;
use change::{Left, Order};
pub use collection::Piece;
pub use error::ContentError;
use gantry_disk::{MeasuredThreads, OwnFiles};
use gantry_store::Store;
pub use layout::DIR;
use layout::Layout;
use locks::{References, Shards};
pub use read::Reader;
pub use status::{Status, StatusPage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
pub use unique::unique;
pub use write::Writer;

/// How many writes may be open at a time, each with a file.
const MAX_WRITERS: usize = 512;

/// How many reads, each with a file.
const MAX_READERS: usize = 256;

/// The content. Clones are the same. What a call has begun has to be done to its end: its future must not be dropped
/// before (but for reads), else the next server looks through all files.
#[derive(Clone)]
pub struct Content(Arc<Shared>);

struct Shared {
    store: Store,
    files: OwnFiles,
    layout: Layout,
    /// In which files are known to be whole, see `gantry-store`.
    epoch: u64,
    order: Order,
    references: References,
    /// By namespace and reference: from the record of a write to its file, and back.
    ingests: Shards,
    /// By digest: from a blob's file to its record, and back.
    blobs: Shards,
    /// By digest: that no file is read twice for its digest.
    checks: Shards,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

impl Content {
    /// The threads that wait for the disk.
    pub fn measure(&self) -> MeasuredThreads {
        self.0.files.measure()
    }

    /// Opens what is in the directory `root`, or makes it; `boot` tells this boot of the machine from others.
    ///
    /// # Errors
    /// If a file or the store fails, or there is no thread.
    pub async fn open(root: &Path, store: Store, boot: u64) -> Result<Self, ContentError> {
        let files = OwnFiles::new().map_err(|error| ContentError::NoThread(Arc::new(error)))?;
        let layout = Layout::new(root);
        let directories = layout.clone();
        files.run(move |may_wait| directories.make(may_wait)).await?;
        let state = store.open_content(boot).await?;
        recovery::clear(&store, &files, &layout, state).await?;
        Ok(Self(Arc::new(Shared {
            store,
            files,
            layout,
            epoch: state.epoch,
            order: Order::default(),
            references: References::default(),
            ingests: Shards::default(),
            blobs: Shards::default(),
            checks: Shards::default(),
            writers: Arc::new(Semaphore::new(MAX_WRITERS)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
        })))
    }

    /// Waits for changes under way, and notes that the files are in order. Further changes are refused.
    pub async fn close(&self) {
        let has_strays = match self.0.order.close().await {
            Left::InOrder => false,
            Left::WithStrays => true,
            Left::Unknown => {
                tracing::warn!(
                    "a change of content was not done to its end; all files are checked at the next start"
                );
                return;
            }
        };
        if let Err(error) = self.0.store.close_content(has_strays).await {
            tracing::warn!(%error, "content cannot be closed; all files are checked at the next start");
        }
    }

    /// The records of blobs.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }
}

/// One of so many.
fn one_of(
    semaphore: &Arc<Semaphore>,
    count: usize,
    what: &'static str,
) -> Result<OwnedSemaphorePermit, ContentError> {
    let permit = Arc::clone(semaphore).try_acquire_owned();
    permit.map_err(|_| ContentError::TooMany(count, what))
}
