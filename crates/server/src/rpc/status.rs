//! One mapping of errors to gRPC codes.

use std::{borrow::Cow, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    bundle::BundleError, causes::chain, cgroup::LimitError, checkpoint::CheckpointError,
    disk::DiskError, domain::Refusal, oci::OciError, supervisor::SupervisorError,
};

/// A field of a request that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub(super) struct BadField {
    pub(super) field: Cow<'static, str>,
    pub(super) problem: String,
}

impl BadField {
    pub(super) fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl From<BadField> for Status {
    fn from(bad: BadField) -> Self {
        let details = ErrorDetails::with_bad_request_violation(&*bad.field, bad.problem.clone());
        Self::with_error_details(Code::InvalidArgument, bad.to_string(), details)
    }
}

impl From<SupervisorError> for Status {
    fn from(error: SupervisorError) -> Self {
        let code = code(&error);
        let message = chain(&error);
        tracing::info!(?code, error = message, "request failed");
        match error {
            SupervisorError::Bundle(_) => BadField::new("bundlePath", message).into(),
            SupervisorError::Oci(OciError::Stdio { stream, .. }) => {
                let details = ErrorDetails::with_bad_request_violation(stream, message.clone());
                Self::with_error_details(code, message, details)
            }
            SupervisorError::Overloaded => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
                Self::with_error_details(code, message, details)
            }
            _ => Self::new(code, message),
        }
    }
}

impl From<DiskError> for Status {
    fn from(error: DiskError) -> Self {
        SupervisorError::from(error).into()
    }
}

impl From<CheckpointError> for Status {
    fn from(error: CheckpointError) -> Self {
        SupervisorError::from(error).into()
    }
}

fn code(error: &SupervisorError) -> Code {
    match error {
        SupervisorError::ContainerNotFound(_)
        | SupervisorError::ProcessNotFound(_)
        | SupervisorError::ProcessForgotten(_)
        | SupervisorError::Checkpoint(CheckpointError::NotFound(_)) => Code::NotFound,
        SupervisorError::ContainerTaken(_)
        | SupervisorError::NotOurs(_)
        | SupervisorError::Refused(Refusal::ProcessTaken(_))
        | SupervisorError::Checkpoint(CheckpointError::Taken(_)) => Code::AlreadyExists,
        SupervisorError::ProcessExited(_)
        | SupervisorError::StillFrozen { .. }
        | SupervisorError::Replaced(_)
        | SupervisorError::Checkpoint(CheckpointError::NotACheckpoint { .. })
        | SupervisorError::Limit(
            LimitError::Unsupported { .. }
            | LimitError::Ignored { .. }
            | LimitError::NotInV2 { .. },
        )
        | SupervisorError::Refused(Refusal::Phase(_)) => Code::FailedPrecondition,
        SupervisorError::Limit(LimitError::Refused { .. }) => Code::InvalidArgument,
        SupervisorError::Busy(_) => Code::Aborted,
        SupervisorError::Overloaded => Code::ResourceExhausted,
        SupervisorError::State(error) if error.is_out_of_space() => Code::ResourceExhausted,
        SupervisorError::Draining | SupervisorError::Shim { .. } => Code::Unavailable,
        SupervisorError::CallerGone => Code::Cancelled,
        SupervisorError::NoTurn { .. } => Code::DeadlineExceeded,
        SupervisorError::Bundle(
            BundleError::Relative(_)
            | BundleError::Parent(_)
            | BundleError::NotADirectory { .. }
            | BundleError::Config { .. },
        )
        | SupervisorError::Checkpoint(CheckpointError::Config { .. }) => Code::InvalidArgument,
        SupervisorError::Disk(error)
        | SupervisorError::Checkpoint(CheckpointError::Disk(error)) => disk_code(error),
        SupervisorError::Oci(error) | SupervisorError::Checkpoint(CheckpointError::Oci(error)) => {
            oci_code(error)
        }
        SupervisorError::Checkpoint(CheckpointError::Damaged { .. }) => Code::DataLoss,
        SupervisorError::Checkpoint(CheckpointError::Io { .. })
        | SupervisorError::State(_)
        | SupervisorError::Signal { .. }
        | SupervisorError::StartShim { .. }
        | SupervisorError::Bug => Code::Internal,
    }
}

fn oci_code(error: &OciError) -> Code {
    match error {
        _ if error.is_exhausted() => Code::ResourceExhausted,
        _ if error.is_taken() => Code::AlreadyExists,
        _ if error.blames_the_request() => Code::InvalidArgument,
        OciError::NotOnPath { .. }
        | OciError::Exec { .. }
        | OciError::Refused { .. }
        | OciError::Wordless { .. }
        | OciError::Killed { .. }
        | OciError::Endless { .. } => Code::FailedPrecondition,
        OciError::Deadline { .. } => Code::DeadlineExceeded,
        OciError::Stdio { .. } | OciError::System { .. } => Code::Internal,
    }
}

fn disk_code(error: &DiskError) -> Code {
    match error {
        DiskError::Deadline { .. } => Code::DeadlineExceeded,
        DiskError::Full { .. } | DiskError::NoThread { .. } => Code::ResourceExhausted,
        DiskError::Bug { .. } => Code::Internal,
    }
}
