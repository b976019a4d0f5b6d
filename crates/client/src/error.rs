//! What can go wrong, in the daemon's terms.

use std::{fmt, io, path::PathBuf};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation: which one, and why.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {kind}")]
pub struct Error {
    operation: String,
    // Not a `source`: its text is already in the message.
    kind: Box<ErrorKind>,
}

impl Error {
    pub(crate) fn new(operation: impl Into<String>, kind: ErrorKind) -> Error {
        Error { operation: operation.into(), kind: Box::new(kind) }
    }

    pub(crate) fn io(operation: &str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::new(operation, ErrorKind::Io { path: path.into(), source })
    }

    /// What was being done, for people: "create container web".
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Why it failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the container, process or checkpoint is unknown to the server.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_))
    }

    /// Whether the target is not there any more: unknown, or a process that has exited.
    pub fn is_gone(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_) | ErrorKind::ProcessExited(_))
    }

    /// Whether the server may have carried out the call although it was never answered.
    pub fn is_ambiguous(&self) -> bool {
        matches!(*self.kind, ErrorKind::Unavailable(_) | ErrorKind::DeadlineExceeded(_))
    }

    /// The exit code that a daemon stores for a process that could not be started.
    pub fn start_exit_code(&self) -> u8 {
        match &*self.kind {
            ErrorKind::RuntimeFailed { exit_code, .. } => *exit_code,
            _ => crate::status::START_FAILED,
        }
    }
}

/// Why an operation failed. The texts are the server's own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Unknown container, process or checkpoint.
    #[error("{0}")]
    NotFound(String),
    /// The process is known but has already exited.
    #[error("{0}")]
    ProcessExited(String),
    /// The id is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// A field of the request is malformed.
    #[error("{message}{}", Violations(violations))]
    InvalidArgument {
        /// The server's words.
        message: String,
        /// The fields at fault, where the server names them.
        violations: Vec<FieldViolation>,
    },
    /// The container or process is in a state that does not allow the call.
    #[error("{0}")]
    FailedPrecondition(String),
    /// A conflicting call on the same container is still at work.
    #[error("{0}")]
    Conflict(String),
    /// Too many calls are waiting for this container.
    #[error("{0}")]
    Busy(String),
    /// The runtime refused or failed.
    #[error("{message}")]
    RuntimeFailed {
        /// The runtime's own words.
        message: String,
        /// What a shell would exit with: 127 command not found, 126 cannot be run, else 128.
        exit_code: u8,
    },
    /// The server is away, or went away before it answered.
    #[error("{0}")]
    Unavailable(String),
    /// The server or the runtime took too long.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The server does not let this user do that.
    #[error("{0}")]
    PermissionDenied(String),
    /// Events were lost: the subscriber fell too far behind, or the journal is damaged.
    #[error("{0}")]
    EventsLost(String),
    /// Anything else that the server reported.
    #[error("{message} ({code})")]
    Server {
        /// Name of the gRPC status code.
        code: &'static str,
        /// The server's words.
        message: String,
    },
    /// A file, pipe or socket on this side.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was operated on.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A configuration that cannot be written or read.
    #[error("{}: {message}", path.display())]
    Spec {
        /// The config.json.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// One malformed field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Name of the field.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Appends the fields that the message does not name itself.
struct Violations<'a>(&'a [FieldViolation]);

impl fmt::Display for Violations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|v| write!(f, " [{}: {}]", v.field, v.description))
    }
}
