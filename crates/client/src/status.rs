//! Turns the status of a failed call into an [`ErrorKind`].
//!
//! gantryd answers with the proper gRPC code. The original containerd answers everything with
//! UNKNOWN, so there the phrases that the contract fixes decide. The runtime's failures are
//! recognised by their prefix in both.

use std::error::Error as _;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::error::{ErrorKind, FieldViolation};

/// What a daemon stores when a start failed for no reason a shell would know.
pub(crate) const START_FAILED: u8 = 128;
const CANNOT_RUN: u8 = 126;
const COMMAND_NOT_FOUND: u8 = 127;

const RUNTIME_PREFIX: &str = "oci runtime error:";

/// `command` is the program of a start, to tell its absence from that of another file.
pub(crate) fn classify(status: &Status, command: Option<&str>) -> ErrorKind {
    let message = status.message().to_owned();
    if message.contains(RUNTIME_PREFIX) {
        let exit_code = start_exit_code(&message, command);
        return ErrorKind::RuntimeFailed { message, exit_code };
    }
    if message.contains("no such process") {
        return ErrorKind::ProcessExited(message);
    }
    match status.code() {
        Code::NotFound => ErrorKind::NotFound(message),
        Code::AlreadyExists => ErrorKind::AlreadyExists(message),
        Code::InvalidArgument => {
            ErrorKind::InvalidArgument { violations: violations(status), message }
        }
        Code::FailedPrecondition => ErrorKind::FailedPrecondition(message),
        Code::Aborted => ErrorKind::Conflict(message),
        Code::ResourceExhausted => ErrorKind::Busy(message),
        Code::Unavailable => ErrorKind::Unavailable(message),
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded(message),
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied(message),
        Code::DataLoss => ErrorKind::EventsLost(message),
        Code::Unknown | Code::Cancelled if is_transport(status) => {
            ErrorKind::Unavailable(with_causes(status))
        }
        Code::Unknown => by_phrase(message),
        code => ErrorKind::Server { code: code_name(code), message },
    }
}

fn by_phrase(message: String) -> ErrorKind {
    let has = |phrase| message.contains(phrase);
    if has("container not found") || has("process not found") || has("checkpoint does not exist") {
        ErrorKind::NotFound(message)
    } else if has("already exists") {
        ErrorKind::AlreadyExists(message)
    } else if has("cannot be empty") || has("invalid") || has("is not an absolute path") {
        ErrorKind::InvalidArgument { message, violations: Vec::new() }
    } else if has("process exited") || has("container has exited") || has("container not started") {
        ErrorKind::FailedPrecondition(message)
    } else if has("did not start before the specified timeout") {
        ErrorKind::DeadlineExceeded(message)
    } else if has("supervisor is shutdown") {
        ErrorKind::Unavailable(message)
    } else {
        ErrorKind::Server { code: code_name(Code::Unknown), message }
    }
}

/// The exit code of `sh` for a command that could not be started.
fn start_exit_code(message: &str, command: Option<&str>) -> u8 {
    let message = message.to_lowercase();
    let has = |phrase| message.contains(phrase);
    let names_command = command.is_none_or(|c| message.contains(&c.to_lowercase()));
    let missing =
        has("executable file") || has("no such file or directory") || has("not a directory");
    if names_command && missing {
        COMMAND_NOT_FOUND
    } else if has("permission denied") || has("is a directory") || has("exec format error") {
        CANNOT_RUN
    } else {
        START_FAILED
    }
}

/// Whether the call was never answered: tonic gives a broken connection the code UNKNOWN, and
/// hyper's own cancellation the code CANCELLED.
fn is_transport(status: &Status) -> bool {
    status.source().is_some()
}

fn with_causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

fn violations(status: &Status) -> Vec<FieldViolation> {
    let Some(details) = status.get_details_bad_request() else { return Vec::new() };
    let named = |v: tonic_types::FieldViolation| FieldViolation {
        field: v.field,
        description: v.description,
    };
    details.field_violations.into_iter().map(named).collect()
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn exit_code(message: &str, command: &str) -> u8 {
        match classify(&Status::unknown(message), Some(command)) {
            ErrorKind::RuntimeFailed { exit_code, .. } => exit_code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_start_failure_suggests_what_a_shell_would_exit_with() {
        let missing = r#"oci runtime error: exec: "foo": executable file not found in $PATH"#;
        assert_eq!(exit_code(missing, "foo"), 127);
        let crun = "oci runtime error: executable file `foo` not found in $PATH: No such file";
        assert_eq!(exit_code(crun, "foo"), 127);
        let denied = r#"oci runtime error: exec: "/etc/hosts": permission denied"#;
        assert_eq!(exit_code(denied, "/etc/hosts"), 126);
        let mount = "oci runtime error: mount /data: no such file or directory";
        assert_eq!(exit_code(mount, "/bin/true"), 128);
    }

    #[test]
    fn the_original_server_is_understood_by_its_phrases() {
        let kind = |m: &str| classify(&Status::unknown(m), None);
        assert!(matches!(kind("containerd: container not found"), ErrorKind::NotFound(_)));
        assert!(matches!(kind("containerd: process not found"), ErrorKind::NotFound(_)));
        assert!(matches!(kind("no such process"), ErrorKind::ProcessExited(_)));
        assert!(matches!(kind("containerd: id already exists"), ErrorKind::AlreadyExists(_)));
        assert!(matches!(kind("anything else"), ErrorKind::Server { code: "UNKNOWN", .. }));
    }

    #[test]
    fn codes_win_over_phrases() {
        let status = Status::failed_precondition("the id already exists, but paused");
        assert!(matches!(classify(&status, None), ErrorKind::FailedPrecondition(_)));
    }

    #[test]
    fn field_violations_come_through() {
        let details = ErrorDetails::with_bad_request_violation("id", "is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        let ErrorKind::InvalidArgument { violations, .. } = classify(&status, None) else {
            panic!("not an invalid argument");
        };
        assert_eq!(violations[0].field, "id");
        assert_eq!(violations[0].description, "is empty");
    }
}
