//! Why the supervisor did not do what it was asked to.

use std::{io, path::PathBuf};

use gantry_disk::DiskError;
use gantry_domain::{ContainerId, ProcessId, Refusal};
use gantry_kernel::{
    cgroup::{CgroupError, LimitError},
    mount::{MountError, UnmountError},
};
use gantry_runtime::{OciError, bundle::BundleError, checkpoint::CheckpointError};

use crate::{NotOurs, state_dir::StateError};

/// Why the supervisor did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SupervisorError {
    #[error("container not found: {0}")]
    ContainerNotFound(ContainerId),
    #[error("container {0} exists already")]
    ContainerTaken(ContainerId),
    /// The idempotency key of a request was given with another one before.
    #[error("was given with another request, which has made the container {0}")]
    KeyTaken(ContainerId),
    /// The container that the runtime has by this id is, or may be, not this server's.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// Somebody has deleted the container in its runtime, and made another one.
    #[error("container {0} was replaced by another one in its runtime")]
    Replaced(ContainerId),
    #[error("process not found: {0}")]
    ProcessNotFound(ProcessId),
    #[error("no such process: {0} has already exited")]
    ProcessExited(ProcessId),
    /// An exec whose exit was published: only its id is remembered.
    #[error("process not found: {0} (no such process: it has already exited)")]
    ProcessForgotten(ProcessId),
    /// Their caller has pipes of its own, or too many others have ended since.
    #[error(
        "the server does not hold the streams of process {0}, or does not keep its output any more"
    )]
    NotHeld(ProcessId),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("another {0} of the container is still at work")]
    Busy(&'static str),
    #[error("too many requests are waiting for the container")]
    Overloaded,
    #[error("the server is stopping")]
    Draining,
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("rootfs: {0}")]
    Mount(#[from] MountError),
    #[error("what an earlier task has left stays mounted: {0}")]
    Unmount(#[from] UnmountError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error("the cgroup of container {0} is gone")]
    CgroupGone(ContainerId),
    #[error("cannot read the statistics of {container}: {cause}")]
    Stats { container: ContainerId, cause: CgroupError },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot signal process {process}: {cause}")]
    Signal { process: ProcessId, cause: io::Error },
    #[error("cannot signal all processes: {cause}")]
    SignalAll { cause: CgroupError },
    /// The signal was sent, and takes effect once the process is thawed.
    #[error("process {process} was sent SIGKILL and ends once it is thawed: {cause}")]
    StillFrozen { process: ProcessId, cause: CgroupError },
    #[error("the shim of process {process} does not answer: {cause}")]
    Shim { process: ProcessId, cause: io::Error },
    #[error("cannot start the shim {path}: {cause}", path = .path.display())]
    StartShim { path: PathBuf, cause: io::Error },
    /// The caller, or the container itself, went away before the container or process was started.
    #[error("the caller gave up")]
    CallerGone,
    /// The task of the container ended without an answer.
    #[error("internal error: the container's task has ended")]
    Bug,
}

impl SupervisorError {
    /// Whether too many others ask for the same at the moment, so that a later attempt may succeed.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::Disk(DiskError::Full { .. })
                | Self::Checkpoint(CheckpointError::Disk(DiskError::Full { .. }))
        )
    }

    /// Whether a runtime has failed, also at a checkpoint.
    #[must_use]
    pub fn is_of_runtime(&self) -> bool {
        matches!(self, Self::Oci(_) | Self::Checkpoint(CheckpointError::Oci(_)))
    }

    /// The stream of the process (stdin, stdout, stderr) that is to blame.
    #[must_use]
    pub fn stream(&self) -> Option<&'static str> {
        match self {
            Self::Oci(OciError::Stdio { stream, .. }) => Some(stream),
            _ => None,
        }
    }
}
