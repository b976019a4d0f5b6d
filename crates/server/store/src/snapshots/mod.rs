//! Records of snapshots: file systems in layers, each made on top of a committed one. The files are in
//! directories, of which this knows nothing but their numbers.
//!
//! A snapshot is known by namespace, snapshotter and key. Active ones and views are used under the key that they were
//! made with; a commit makes an active one a committed one of another name, which can be a parent.

mod calls;
pub(crate) mod changes;
pub(crate) mod query;
pub(crate) mod record;

use std::time::SystemTime;

use crate::Labels;

/// The label of a snapshot that is to be made: if there is a snapshot of the name that the label has, that is
/// what the caller wants, and none is made.
pub const LABEL_TARGET: &str = "containerd.io/snapshot.ref";

/// What a snapshot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Read only, and never committed.
    View,
    /// Written to.
    Active,
    /// Done: others can be made on top of it.
    Committed,
}

impl SnapshotKind {
    /// As filters have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// What a snapshot takes of its disk, without its parents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotUsage {
    /// Files, directories and so on.
    pub inodes: u64,
    /// Allocated for them.
    pub bytes: u64,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, unique in its namespace and snapshotter.
    pub key: String,
    /// What it is used for.
    pub kind: SnapshotKind,
    /// The key of the committed snapshot that it was made on; empty if it was made on nothing.
    pub parent: String,
    /// Without empty values.
    pub labels: Labels,
    /// When it was made, or committed, by the server's clock.
    pub created_at: SystemTime,
    /// When it was made, committed or its labels were changed.
    pub updated_at: SystemTime,
    /// The number of its directory, which no other snapshot has, whatever its snapshotter.
    pub directory: u64,
    /// Of a committed one.
    pub usage: SnapshotUsage,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// Whose.
    pub snapshotter: String,
    /// Its name.
    pub key: String,
    /// The key of the one that it is made on; empty for none.
    pub parent: String,
    /// Whether it is read only.
    pub is_view: bool,
    /// Empty values are dropped.
    pub labels: Labels,
    /// A lease that is to keep it.
    pub lease: Option<String>,
}

/// What an active snapshot becomes.
#[derive(Debug, Clone)]
pub struct CommittedSnapshot {
    /// Whose.
    pub snapshotter: String,
    /// The key that it had.
    pub key: String,
    /// The number of the directory that it had when its usage was found out.
    pub directory: u64,
    /// Its name from now on.
    pub name: String,
    /// Empty values are dropped.
    pub labels: Labels,
    /// What was counted.
    pub usage: SnapshotUsage,
    /// A lease that is to keep it.
    pub lease: Option<String>,
}

/// A snapshot and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotChain {
    /// Itself.
    pub snapshot: Snapshot,
    /// The numbers of its parents' directories, the nearest first.
    pub below: Vec<u64>,
}

/// A part of a list, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Those that match; may be empty though there is a next page.
    pub snapshots: Vec<Snapshot>,
    /// After which key the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}
