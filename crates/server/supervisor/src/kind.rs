//! The kinds of errors, whatever the API: each surface maps a kind to a code of its own.

use gantry_disk::DiskError;
use gantry_domain::Refusal;
use gantry_kernel::cgroup::LimitError;
use gantry_runtime::{OciError, bundle::BundleError, checkpoint::CheckpointError};

use crate::SupervisorError;

/// What an error means for its caller. The names are those of gRPC's codes, whose meanings these have
/// (google/rpc/code.proto).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request is wrong, whatever the state of the container.
    InvalidArgument,
    /// The state of the container, of the host or of the runtime does not allow it.
    FailedPrecondition,
    /// Something else is being done with the container; to be tried again.
    Aborted,
    /// A bound of the server or of the host was reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// The server is stopping, or a shim does not answer.
    Unavailable,
    /// A file that must be right is damaged.
    DataLoss,
    /// The system or the server has failed.
    Internal,
}

/// The kind of an error of the supervisor.
pub(crate) fn kind(error: &SupervisorError) -> Kind {
    match error {
        SupervisorError::ContainerNotFound(_)
        | SupervisorError::ProcessNotFound(_)
        | SupervisorError::ProcessForgotten(_)
        | SupervisorError::Checkpoint(CheckpointError::NotFound(_)) => Kind::NotFound,
        SupervisorError::ContainerTaken(_)
        | SupervisorError::NotOurs(_)
        | SupervisorError::Refused(Refusal::ProcessTaken(_))
        | SupervisorError::Checkpoint(CheckpointError::Taken(_)) => Kind::AlreadyExists,
        SupervisorError::ProcessExited(_)
        | SupervisorError::CgroupGone(_)
        | SupervisorError::StillFrozen { .. }
        | SupervisorError::Replaced(_)
        | SupervisorError::Checkpoint(CheckpointError::NotACheckpoint { .. })
        | SupervisorError::Limit(
            LimitError::Unsupported { .. }
            | LimitError::Ignored { .. }
            | LimitError::NotInV2 { .. },
        )
        | SupervisorError::Refused(Refusal::Phase(_)) => Kind::FailedPrecondition,
        SupervisorError::Limit(LimitError::Refused { .. }) => Kind::InvalidArgument,
        SupervisorError::Busy(_) => Kind::Aborted,
        SupervisorError::Overloaded => Kind::ResourceExhausted,
        SupervisorError::State(error) if error.is_out_of_space() => Kind::ResourceExhausted,
        SupervisorError::Draining | SupervisorError::Shim { .. } => Kind::Unavailable,
        SupervisorError::CallerGone => Kind::Cancelled,
        SupervisorError::NoTurn { .. } => Kind::DeadlineExceeded,
        SupervisorError::Bundle(
            BundleError::Relative(_)
            | BundleError::Parent(_)
            | BundleError::NotADirectory { .. }
            | BundleError::Config { .. },
        )
        | SupervisorError::Checkpoint(CheckpointError::Config { .. }) => Kind::InvalidArgument,
        SupervisorError::Disk(error)
        | SupervisorError::Checkpoint(CheckpointError::Disk(error)) => disk_kind(error),
        SupervisorError::Oci(error) | SupervisorError::Checkpoint(CheckpointError::Oci(error)) => {
            oci_kind(error)
        }
        SupervisorError::Checkpoint(CheckpointError::Damaged { .. }) => Kind::DataLoss,
        SupervisorError::Checkpoint(CheckpointError::Io { .. })
        | SupervisorError::State(_)
        | SupervisorError::Stats { .. }
        | SupervisorError::Signal { .. }
        | SupervisorError::StartShim { .. }
        | SupervisorError::Bug => Kind::Internal,
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
