//! The one mapping of errors to the codes of `types.API`.

use std::time::Duration;

use gantry_supervisor::SupervisorError;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::rpc::{self, BadField, IDEMPOTENCY_METADATA};

/// After which time a call that was refused as too many waited may be repeated.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// An error as the answer to a caller of `types.API`; it is logged too.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn status(error: SupervisorError) -> Status {
    let code = rpc::code(error.kind());
    let message = error.to_string();
    tracing::info!(?code, error = message, "request failed");
    if matches!(error, SupervisorError::Bundle(_)) {
        return BadField::new("bundlePath", message).into();
    }
    if matches!(error, SupervisorError::KeyTaken(_)) {
        return BadField::new(IDEMPOTENCY_METADATA, message).into();
    }
    let details = match error.stream() {
        Some(stream) => ErrorDetails::with_bad_request_violation(stream, message.clone()),
        None if error.is_crowded() => ErrorDetails::with_retry_info(Some(RETRY_AFTER)),
        None => return Status::new(code, message),
    };
    Status::with_error_details(code, message, details)
}
