//! What happened to a container.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{ContainerKey, Exit, Labels, ProcessId, Stdio};

/// Nanoseconds since the epoch.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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
    /// Distinguishes containers that have used this id.
    pub generation: Generation,
    /// Of the container, as they were when it was created.
    pub labels: Labels,
    /// What has happened.
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The runtime has created the container, whose first process waits to be started. Only of a container
    /// that is created and started in two steps.
    Created(Box<Created>),
    /// Its first process runs.
    ContainerStarted {
        /// On the host; zero in events of servers that did not record it.
        pid: u32,
    },
    /// A further process can be started. Only of a container that is created and started in two steps.
    ProcessAdded {
        /// Its id.
        process: ProcessId,
    },
    /// A further process runs.
    ProcessStarted {
        /// Its id.
        process: ProcessId,
        /// Distinguishes processes that have used this id.
        generation: Generation,
        /// On the host; zero in events of servers that did not record it.
        pid: u32,
    },
    /// `generation` is the process's own, as an exec's id can be used again in the same container.
    Exited {
        /// Its id, or that of the first process.
        process: ProcessId,
        /// Distinguishes processes that have used this id.
        generation: Generation,
        /// On the host; zero if nobody knew it, or in events of servers that did not record it.
        pid: u32,
        /// How and when it has ended.
        exit: Exit,
    },
    /// All its processes are frozen.
    Paused,
    /// They run again.
    Resumed,
    /// The kernel has killed a process of it for its limit of memory.
    OutOfMemory,
    /// An image of its processes was written.
    Checkpointed {
        /// The directory of the image.
        path: PathBuf,
    },
    /// It is gone, as its caller has asked. Only of a container that is kept until then.
    Deleted {
        /// Of its first process, on the host.
        pid: u32,
        /// How its first process has ended; unknown if that was never started.
        exit: Exit,
    },
}

/// A container that the runtime has created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Of its first process, on the host.
    pub pid: u32,
    /// The server's directory for it.
    pub bundle: PathBuf,
    /// What is mounted as its root.
    pub rootfs: Vec<Mount>,
    /// The ends of the caller's pipes.
    pub stdio: Stdio,
    /// Its first process has a terminal.
    pub terminal: bool,
    /// The directory of the image that it is restored from.
    pub checkpoint: Option<PathBuf>,
}

/// Something to be mounted, as mount(8) has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The type of the file system; `bind` for a directory that is there already.
    pub kind: String,
    /// A directory, a device, or whatever the file system makes of it.
    pub source: String,
    /// Where, below what it is mounted on; empty for that itself.
    pub target: String,
    /// As `ro`, or `lowerdir=/a:/b`.
    pub options: Vec<String>,
}
