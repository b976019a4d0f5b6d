//! What happened to a container.

use serde::{Deserialize, Serialize};

use crate::{ContainerKey, ExitStatus, ProcessId};

/// Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Tells one life of an id from the next: chosen when the container is created, never used twice
/// in a state directory. Not on the wire; it lets a restarted server know whether an event of
/// *this* process was journalled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life(pub u64);

/// An event as it is journalled and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique and strictly increasing over the life of the state directory.
    pub at: Timestamp,
    pub container: ContainerKey,
    pub life: Life,
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    ContainerStarted,
    ProcessStarted {
        process: ProcessId,
        life: Life,
    },
    /// `life` is the process's own, as an exec's id can be used again in the same container.
    Exited {
        process: ProcessId,
        life: Life,
        status: ExitStatus,
    },
    Paused,
    Resumed,
    OutOfMemory,
}
