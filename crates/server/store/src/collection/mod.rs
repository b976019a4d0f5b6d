//! Finds what nothing refers to any more, and removes its records.
//!
//! # What is kept
//! By themselves, as roots:
//! ```text
//! container            always
//! image                as long as its label containerd.io/gc.expire says, or always without one
//! write                until it is stale
//! blob, snapshot       with a label containerd.io/gc.root
//! any of these         as a resource of a lease that has not ended
//! ```
//! Through another object that is kept:
//! ```text
//! container  keeps  the snapshot that it names
//! image      keeps  the blob that is its target
//! snapshot   keeps  its parent
//! write      keeps  the blob that it expects; if it shares that with other namespaces, theirs as well
//! any X      keeps  each Y that a label of X names: containerd.io/gc.ref.content, .image or .snapshot.SNAPSHOTTER
//! any X      keeps  each Y of which a label names X: containerd.io/gc.bref.container, .content, .image or
//!                   .snapshot.SNAPSHOTTER
//! ```
//! A resource of a lease with a label `containerd.io/gc.flat` keeps what it consists of (parent, target), and not what
//! labels say. All else is removed: blobs, images, snapshots and writes. Leases that have ended are no concern of this, see
//! [`crate::Store::expire_leases`].
//!
//! # How
//! ```text
//! mark:    one read transaction: all nodes, all edges -> candidates, that nothing refers to; nobody waits for it
//! remove:  a write transaction for each piece of them: what was written since the mark is kept, with all that it
//!          refers to now; those candidates that are not reached so are removed
//! ```
//! A collection of nothing writes nothing, and one of a single piece is one transaction.
//!
//! What refers is removed before what it refers to: images, writes, blobs, snapshots, and among blobs a manifest before its
//! layers. So an image that is renewed between two pieces is there with all its content, or not at all.
//!
//! # Why nothing is removed that is referred to
//! The first piece is removed only if nothing was written since the mark: changes are counted in memory (`worker.rs`), also
//! those that are committed together with it. Else nothing is removed, and after that transaction comes another mark. From
//! that transaction on it is noted of each node that its record was written, and of each that a lease got it
//! (`changes.rs`, in the database, so that it is one with the change). Take a node that is kept according to the database
//! as a piece is removed: a path leads to it from something that is always kept. If nothing of the path was written since
//! the mark, the mark has found it. Else take the last node of it that was written, or that a lease got: it was noted, so
//! it is kept, and the rest of the path, which was not written since, is as the graph has it. (A back reference is a
//! label of the node at the end of its edge: if it is new, that node was noted.) Time does no harm either: one `now`
//! holds for all of a collection, and what ends later is kept by it.
//!
//! # What stays until the next collection
//! All that was written in the middle of a collection, and what it refers to, be it kept by then or not. To find that out
//! would take another mark; a write transaction follows the references of what was written alone, and so takes no longer
//! when there are many records. [`Collection::end`] says whether something stays so.

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
