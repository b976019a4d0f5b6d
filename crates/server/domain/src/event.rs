//! What happened to a container.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{ContainerKey, Exit, ProcessId};

/// Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl From<SystemTime> for Timestamp {
    /// Clamped to the epoch, and to the year 2554.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Generation number: distinguishes successive uses of an id, unique in a state directory. Not on the wire; a
/// restarted server uses it to find whether an event of *this* process was journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// An event as it is journalled and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique and strictly increasing over the life of the state directory.
    pub at: Timestamp,
    /// Whose it is.
    pub container: ContainerKey,
    /// Which of the containers that have had this id.
    pub generation: Generation,
    /// What has happened.
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Its first process runs.
    ContainerStarted,
    /// A further process runs.
    ProcessStarted {
        /// Its id.
        process: ProcessId,
        /// Which of the processes that have had this id.
        generation: Generation,
    },
    /// `generation` is the process's own, as an exec's id can be used again in the same container.
    Exited {
        /// Its id, or that of the first process.
        process: ProcessId,
        /// Which of the processes that have had this id.
        generation: Generation,
        /// How and when it has ended.
        exit: Exit,
    },
    /// All its processes are frozen.
    Paused,
    /// They run again.
    Resumed,
    /// The kernel has killed a process of it for its limit of memory.
    OutOfMemory,
}
