//! One mapping of errors to gRPC codes and details. What gantryd has answered is passed on.

use std::io;

use gantry_client::ErrorKind;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let code = code(&error);
        let message = match &error {
            Error::Server(cause) if is_unavailable(cause) => {
                format!("gantryd is not available: {error:#}")
            }
            _ => format!("{error:#}"),
        };
        match details(&error) {
            Some(details) => Status::with_error_details(code, message, details),
            None => Status::new(code, message),
        }
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::NoSuchContainer(_) | Error::NoSuchNetwork(_) => Code::NotFound,
        Error::Ambiguous { .. } | Error::Invalid { .. } => Code::InvalidArgument,
        Error::NameTaken { .. } => Code::AlreadyExists,
        Error::WrongState { .. }
        | Error::CannotJoin { .. }
        | Error::NetworkInUse { .. }
        | Error::PortTaken { .. }
        | Error::Unusable { .. } => Code::FailedPrecondition,
        Error::NoFreeAddress(_) | Error::NoFreeSubnet => Code::ResourceExhausted,
        Error::DoesNotEnd(_) => Code::DeadlineExceeded,
        Error::Server(error) => server_code(error),
        Error::Io { source, .. } => io_code(source),
        Error::Netavark { .. } | Error::Spec(_) | Error::Panicked(_) => Code::Internal,
    }
}

/// gantryd's code, or that of a failure on this side of the connection.
fn server_code(error: &gantry_client::Error) -> Code {
    match error.answer().map(|answer| Code::from(answer.code)) {
        // The original containerd gives every error this one.
        None | Some(Code::Unknown) => kind_code(error.kind()),
        Some(code) => code,
    }
}

fn kind_code(kind: &ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound(_) => Code::NotFound,
        ErrorKind::AlreadyExists(_) => Code::AlreadyExists,
        ErrorKind::InvalidArgument { .. } => Code::InvalidArgument,
        ErrorKind::FailedPrecondition(_)
        | ErrorKind::ProcessExited(_)
        | ErrorKind::RuntimeFailed { .. } => Code::FailedPrecondition,
        ErrorKind::Conflict(_) => Code::Aborted,
        ErrorKind::Busy(_) => Code::ResourceExhausted,
        ErrorKind::Unavailable(_) => Code::Unavailable,
        ErrorKind::DeadlineExceeded(_) => Code::DeadlineExceeded,
        ErrorKind::PermissionDenied(_) => Code::PermissionDenied,
        ErrorKind::EventsLost(_) => Code::DataLoss,
        ErrorKind::Io { source, .. } => io_code(source),
        _ => Code::Internal,
    }
}

fn io_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            Code::ResourceExhausted
        }
        _ => Code::Internal,
    }
}

fn details(error: &Error) -> Option<ErrorDetails> {
    let field = |field: &str, description: String| {
        Some(ErrorDetails::with_bad_request_violation(field, description))
    };
    match error {
        Error::Invalid { field: name, message } => field(name, message.clone()),
        Error::Ambiguous { .. } => field("reference", error.to_string()),
        Error::Server(error) => server_details(error),
        _ => None,
    }
}

/// Those of gantryd, of whatever type. Its own words are not among them: the message has them.
fn server_details(error: &gantry_client::Error) -> Option<ErrorDetails> {
    let details = &error.answer()?.details;
    if details.is_empty() {
        return None;
    }
    Some(Status::with_details(Code::Unknown, "", details.clone().into()).get_error_details())
}

fn is_unavailable(error: &gantry_client::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable(_))
}
