//! Where a container and its processes are in their lives, and why something is not allowed then.

use serde::{Deserialize, Serialize};

use crate::{Exit, ExitStatus, ProcessId, Timestamp};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The runtime is at work; nothing was published yet.
    Starting,
    /// Its first process waits to be started.
    Created,
    /// Its first process lives.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped(Exit),
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessPhase {
    /// It waits to be started.
    Created,
    /// The runtime is at work.
    Starting,
    /// It lives.
    Running,
    /// It has ended.
    Stopped(Exit),
}

/// How long a container is kept, and with it its exit and those of its processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// Until its first process ends; the exit is published after the removal. So in `types.API`.
    #[default]
    UntilExit,
    /// Until its caller deletes it; the exit is published at once. So in containerd's API.
    UntilDeleted,
}

/// Why something is not allowed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("the container is {}", .0.name())]
    Phase(Phase),
    #[error("process {0} exists already")]
    ProcessTaken(ProcessId),
    #[error("process {process} is {}", phase.name())]
    ProcessPhase { process: ProcessId, phase: ProcessPhase },
    #[error("process not found: {0}")]
    NoProcess(ProcessId),
}

impl Refusal {
    /// For an error that is answered before it is known how the container has ended.
    pub const STOPPED: Self =
        Self::Phase(Phase::Stopped(Exit { status: ExitStatus::Unknown, at: Timestamp(0) }));
}

impl Phase {
    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
        }
    }
}

impl ProcessPhase {
    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Whether there is a process, or is about to be.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}
