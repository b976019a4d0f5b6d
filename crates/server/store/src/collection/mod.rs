//! Finds what nothing refers to any more, and removes its records.
//!
//! # What is kept
//! ```text
//! always       containers; images that have not expired; writes that are not stale
//!              blobs and snapshots with a label containerd.io/gc.root
//!              resources of leases that have not ended
//! through      container -> snapshot         image -> target       snapshot -> parent
//! what is      write -> blob that it expects; of all namespaces, if it shares another one's
//! kept         labels gc.ref.content, .image, .snapshot.NAME of blobs, containers, images, snapshots
//!              labels gc.bref.container, .content, .image, .snapshot.NAME, the other way round
//! ```
//! The resources of a lease with a label `containerd.io/gc.flat` are kept with what they consist of (parents,
//! target), and not with what labels name. All else is removed: blobs, images that have expired, snapshots, and writes
//! that are stale. Leases that have ended are no concern of this, see [`Store::expire_leases`].
//!
//! # How
//! ```text
//! mark:    one read transaction: all nodes, all edges -> candidates, that nothing refers to; nobody waits for it
//! remove:  a write transaction for each piece of them: what was written since the mark is kept, with all that it
//!          refers to now; those candidates that are not reached so are removed
//! ```
//!
//! # Why nothing is removed that is referred to
//! Before the mark, a write transaction begins to note each node whose record is written, and each that a lease gets
//! (`changes.rs`, in the database, so that it is one with the change). Take a node that is kept according to the database
//! as a piece is removed: a path leads to it from something that is always kept. If nothing of the path was written since
//! the mark, the mark has found it. Else take the last node of it that was written, or that a lease got: it was noted, so
//! it is kept, and the rest of the path, which was not written since, is as the graph has it. (A back reference is a
//! label of the node at the end of its edge: if it is new, that node was noted.) Time does no harm either: one `now`
//! holds for all of a collection, and what ends later is kept by it.
//!
//! # How long
//! Of 10,000 blobs that nothing refers to, the two marks take 0.12 s, and with their removal in pieces of 128 all takes
//! 0.46 s; a change that is made meanwhile waits 9 ms at most (`tests/collection/measure.rs`).
//!
//! # What is left
//! What was noted is kept until the next collection, though nothing may refer to it. A write transaction follows edges of
//! what was noted only, so that it takes no longer when there are many records.

mod changes;
mod garbage;
mod graph;
mod labels;
mod node;
mod read;
mod removal;

pub(crate) use changes::{note, note_resource};
pub(crate) use garbage::Garbage;
pub use node::{Node, NodeKind};
pub use removal::{Collection, Removed};
