//! What containerd's clients keep in their daemon: namespaces, containers, images, leases, and records of
//! content and of snapshots (whose files are `gantry-content`'s and `gantry-snapshots`'), in a database of its own
//! file; and the filters by which they are listed.
//!
//! # The database
//! It is redb, a file of copy-on-write B-trees as bbolt, which containerd uses, and not SQLite. It is Rust alone,
//! so that a static server is built without a C compiler; it checks each page by a checksum, and reads while
//! something is written; its file is reached through a trait of a few calls, so that room can be allocated
//! before something is written, and a power cut be tried in memory. A change is answered when it is on the
//! disk; changes that wait meanwhile are written together, with one `fsync`. A create of 10 KiB takes 1.1 ms in
//! the median (`tests/measure.rs`), of which 0.6 ms are the disk's; SQLite with its log was a third faster in
//! the same loop, and adds 2.0 MiB to a server instead of 0.9 MiB.
//!
//! A crash leaves the last change that was committed, and no half of another. A full disk refuses a change
//! before it has begun, as room is allocated when the file grows, and leaves everything readable. (Of a file
//! system without `fallocate` neither is certain: a change that was refused can be there.)
//!
//! When the file is opened all pages are checked. One that is damaged is renamed to
//! `metadata.redb.corrupt-N`, and an empty one takes its place, as with the journal of events: containers that
//! run go on, and can be found, where a server that does not start would hide
//! them all. [`Recovery`] says so, which the caller has to report. A page that is damaged later can end the
//! server, which finds it when it is started again. A file of a newer version, one that cannot be read and one
//! that another server has open are errors, and stay.
//!
//! # Garbage
//! What nothing refers to any more can be removed: [`Store::collect`] finds it, a [`Collection`] removes the records
//! piece by piece. Kept are containers, images that have not expired, blobs and snapshots with a label
//! `containerd.io/gc.root`, writes that are not stale, what a lease has, and all that these refer to by labels or by what
//! they are. When a collection is worth its while tells [`Store::garbage`].
//!
//! # Threads
//! Everything that touches the disk runs on four threads of the store: one writes, three read, so that no
//! read waits for a write. A call that would have to wait behind 1024 others or 64 MiB of changes is refused.
//!
//! # Differences from containerd
//! Where containerd keeps extensions that an update does not have any more, here they are gone. A lease's
//! labels are bounded as those of all other objects, and its id to 4096 bytes. An error of a filter's
//! regular expression is an error, see [`filter`].

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod backing;
mod codec;
mod collection;
mod containers;
mod content;
mod digest;
mod engine;
mod error;
pub mod filter;
mod images;
mod leases;
mod mask;
mod namespaces;
mod rfc3339;
mod snapshots;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod types;
#[doc(hidden)]
pub mod untrusted;
mod validate;
mod worker;

pub use collection::{Collection, Node, NodeKind, Removed};
pub use containers::ContainerPage;
pub use content::{
    Beginning, Blob, BlobPage, ContentState, Ingest, IngestPage, NewBlob, NewIngest,
};
pub use digest::{Algorithm, Digest};
pub use error::StoreError;
pub use gantry_domain::Kind;
pub use images::{Descriptor, Image, ImagePage};
pub use leases::{LeasePage, ResourcePage};
pub use snapshots::{
    CommittedSnapshot, LABEL_TARGET, NewSnapshot, Snapshot, SnapshotChain, SnapshotKind,
    SnapshotPage, SnapshotUsage,
};
pub use store::{Recovery, Store};
pub use types::{AnyValue, Container, LABEL_EXPIRE, Labels, Lease, Resource, Runtime};
pub use validate::{check_blob_labels, check_identifier};
