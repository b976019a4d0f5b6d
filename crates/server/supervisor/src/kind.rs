//! The kinds of the supervisor's errors.

use gantry_disk::DiskError;
use gantry_domain::{Kind, Refusal};
use gantry_kernel::cgroup::LimitError;
use gantry_runtime::{OciError, bundle::BundleError, checkpoint::CheckpointError};

use crate::SupervisorError;

impl SupervisorError {
    /// What it means for the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::ContainerNotFound(_)
            | Self::ProcessNotFound(_)
            | Self::ProcessForgotten(_)
            | Self::Refused(Refusal::NoProcess(_))
            | Self::Checkpoint(CheckpointError::NotFound(_)) => Kind::NotFound,
            Self::ContainerTaken(_)
            | Self::NotOurs(_)
            | Self::Refused(Refusal::ProcessTaken(_))
            | Self::Checkpoint(CheckpointError::Taken(_)) => Kind::AlreadyExists,
            Self::ProcessExited(_)
            | Self::NotHeld(_)
            | Self::CgroupGone(_)
            | Self::StillFrozen { .. }
            | Self::Replaced(_)
            | Self::Checkpoint(CheckpointError::NotACheckpoint { .. })
            | Self::Limit(
                LimitError::Unsupported { .. }
                | LimitError::Ignored { .. }
                | LimitError::NotInV2 { .. },
            )
            | Self::Refused(Refusal::Phase(_) | Refusal::ProcessPhase { .. }) => {
                Kind::FailedPrecondition
            }
            Self::KeyTaken(_) | Self::Limit(LimitError::Refused { .. }) => Kind::InvalidArgument,
            Self::Busy(_) => Kind::Aborted,
            Self::Overloaded => Kind::ResourceExhausted,
            Self::State(error) if error.is_out_of_space() => Kind::ResourceExhausted,
            Self::Draining | Self::Shim { .. } => Kind::Unavailable,
            Self::CallerGone => Kind::Cancelled,
            Self::Bundle(
                BundleError::Relative(_)
                | BundleError::Parent(_)
                | BundleError::NotADirectory { .. }
                | BundleError::Config { .. },
            )
            | Self::Mount(_)
            | Self::Checkpoint(CheckpointError::Config { .. }) => Kind::InvalidArgument,
            Self::Disk(error) | Self::Checkpoint(CheckpointError::Disk(error)) => disk_kind(error),
            Self::Oci(error) | Self::Checkpoint(CheckpointError::Oci(error)) => oci_kind(error),
            Self::Checkpoint(CheckpointError::Damaged { .. }) => Kind::DataLoss,
            Self::Checkpoint(CheckpointError::Io { .. })
            | Self::State(_)
            | Self::Unmount(_)
            | Self::Stats { .. }
            | Self::Signal { .. }
            | Self::SignalAll { .. }
            | Self::StartShim { .. }
            | Self::Bug => Kind::Internal,
        }
    }
}

fn oci_kind(error: &OciError) -> Kind {
    match error {
        _ if error.is_exhausted() => Kind::ResourceExhausted,
        _ if error.is_taken() => Kind::AlreadyExists,
        _ if error.blames_the_request() => Kind::InvalidArgument,
        OciError::NotOnPath { .. }
        | OciError::Exec { .. }
        | OciError::Refused { .. }
        | OciError::Wordless { .. }
        | OciError::Killed { .. }
        | OciError::Endless { .. } => Kind::FailedPrecondition,
        OciError::Deadline { .. } => Kind::DeadlineExceeded,
        OciError::Stdio { .. } | OciError::System { .. } => Kind::Internal,
    }
}

fn disk_kind(error: &DiskError) -> Kind {
    match error {
        DiskError::Deadline { .. } => Kind::DeadlineExceeded,
        DiskError::Full { .. } | DiskError::NoThread { .. } => Kind::ResourceExhausted,
        DiskError::Bug { .. } => Kind::Internal,
    }
}
