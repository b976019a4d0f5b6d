//! Turns the status of a failed call into an [`ErrorKind`].
//!
//! gantryd answers with the proper gRPC code. The original containerd answers everything with
//! UNKNOWN, so there the phrases that the contract fixes decide. The runtime's failures are
//! recognised by their prefix in both.

use std::{error::Error as _, fmt};

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use crate::error::{Error, ErrorKind, FieldViolation};

/// The exit code that a daemon stores for a failed start that a shell has no code for.
pub(crate) const START_FAILED: u8 = 128;
const CANNOT_RUN: u8 = 126;
const COMMAND_NOT_FOUND: u8 = 127;

const NO_ANSWER: &str = "the server is away, or went away before it answered";

const RUNTIME_PREFIX: &str = "oci runtime error:";

/// The error of a call that failed; `command` is the program of a start.
pub(crate) fn error(operation: impl Into<String>, status: Status, command: Option<&str>) -> Error {
    let error = Error::new(operation, classify(&status, command));
    if status.source().is_some() {
        return error.caused_by(Broken(status));
    }
    error.answered(status.code().into(), status.details())
}

/// Whether the call surely never left this machine's end of the connection: there was no connection,
/// or it was found closed before the call was put on it.
pub(crate) fn is_unsent(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        let never_on = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if never_on || cause.is::<ConnectError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether the call failed with the connection, or at a server that is stopping: another one
/// may answer it.
pub(crate) fn is_away(status: &Status) -> bool {
    is_broken(status) || status.code() == Code::Unavailable
}

/// What happened to the connection. The status itself would show its code and its source beside each
/// other.
#[derive(Debug)]
struct Broken(Status);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => fmt::Display::fmt(source, f),
            None => f.write_str(self.0.message()),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()?.source()
    }
}

/// A status that tonic makes for a broken connection has a source; an answer of a server has none.
fn is_broken(status: &Status) -> bool {
    use Code::{Cancelled, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | Internal | Unavailable | Unknown)
        && status.source().is_some()
}

/// `command` is the program of a start, to distinguish its absence from that of another file.
pub(crate) fn classify(status: &Status, command: Option<&str>) -> ErrorKind {
    if is_broken(status) {
        return ErrorKind::Unavailable(NO_ANSWER.to_owned());
    }
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
    } else if is_stopping(&message) {
        ErrorKind::Unavailable(message)
    } else {
        ErrorKind::Server { code: code_name(Code::Unknown), message }
    }
}

/// Whether a server says that it is stopping: gantryd's message, and the original's.
pub(crate) fn is_stopping(message: &str) -> bool {
    message.contains("the server is stopping") || message.contains("supervisor is shutdown")
}

/// The exit code of `sh` for a program that could not be started: 127 not found, 126 cannot be run, else 128. `message` is what
/// the runtime said; `command` is the program, to distinguish its absence from that of another file.
pub fn start_exit_code(message: &str, command: Option<&str>) -> u8 {
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

    #[test]
    fn an_answer_is_kept_as_it_was() {
        let details = ErrorDetails::with_bad_request_violation("runtime", "is unknown");
        let message = "oci runtime error: no such file or directory";
        let status = Status::with_error_details(Code::InvalidArgument, message, details);
        let error = error("create container web", status.clone(), None);
        assert!(matches!(error.kind(), ErrorKind::RuntimeFailed { .. }), "{error}");
        let answer = error.answer().unwrap();
        assert_eq!((answer.code, &*answer.details), (3, status.details()));
        let broken = Status::from_error(Box::new(std::io::Error::from_raw_os_error(104)));
        assert_eq!(super::error("create container web", broken, None).answer(), None);
    }

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
