//! Errors as answers to clients of containerd; for the supervisor's errors see `tasks/texts.rs`.

use std::time::Duration;

use gantry_content::ContentError;
use gantry_domain::Kind;
use gantry_events::TooLong;
use gantry_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::rpc::code;

/// After which time a call that was refused as too many waited may be repeated.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A field of a request that is wrong. The message is containerd's, less its end.
pub(super) fn invalid(field: impl Into<String>, problem: impl AsRef<str>) -> Status {
    let message = format!("{}: invalid argument", problem.as_ref());
    let details = ErrorDetails::with_bad_request_violation(field, problem.as_ref());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// A container has no task.
pub(super) fn no_task(id: &str) -> Status {
    Status::not_found(format!("task {id} not found"))
}

/// A task has no such process.
pub(super) fn no_process(exec_id: &str) -> Status {
    Status::not_found(format!("process does not exist {exec_id}: not found"))
}

/// The answer for an error of the store, whose messages are containerd's.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_store(error: StoreError) -> Status {
    let is_busy = matches!(error, StoreError::Busy);
    answer(error.kind(), error.to_string(), error.field(), is_busy)
}

/// The same of the content.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_content(error: ContentError) -> Status {
    let is_busy = matches!(
        error,
        ContentError::Store(StoreError::Busy)
            | ContentError::TooMany(..)
            | ContentError::Locked { .. }
    );
    answer(error.kind(), error.to_string(), error.field(), is_busy)
}

fn answer(kind: Kind, message: String, field: Option<&str>, is_busy: bool) -> Status {
    let code = code(kind);
    tracing::info!(?code, error = message, "request failed");
    let details = match field {
        Some(field) => ErrorDetails::with_bad_request_violation(field, message.clone()),
        None if is_busy => ErrorDetails::with_retry_info(Some(RETRY_AFTER)),
        None => return Status::new(code, message),
    };
    Status::with_error_details(code, message, details)
}

/// An event that a client publishes is too long.
pub(super) fn of_too_long(error: TooLong) -> Status {
    invalid("event", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_of_containerd() {
        let shown = |status: Status| (status.code(), status.message().to_owned());
        assert_eq!(
            shown(of_store(StoreError::NotFound("x".into()))),
            (Code::NotFound, "x: not found".to_owned())
        );
    }
}
