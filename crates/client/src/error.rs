//! What can go wrong, in the daemon's terms.

use std::{fmt, io, path::PathBuf};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What an error was caused by.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failed operation: which one, and why.
///
/// `{}` shows that much; `{:#}` adds the causes, down to the operating
/// system's error, for people to read. The causes are its
/// [`source`](std::error::Error::source) and the sources of that.
#[derive(Debug)]
pub struct Error {
    operation: String,
    kind: Box<ErrorKind>,
    cause: Option<Cause>,
    answer: Option<Box<Answer>>,
}

/// A server's answer to a failed call in gRPC's own terms, for programs that pass it on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The status code, 1 (CANCELLED) to 16 (UNAUTHENTICATED).
    pub code: i32,
    /// An encoded `google.rpc.Status` that has typed details; empty if there are none.
    pub details: Vec<u8>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.kind)?;
        if f.alternate() { write_causes(self, f) } else { Ok(()) }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Some(cause) => Some(&**cause),
            None => std::error::Error::source(&*self.kind),
        }
    }
}

/// Some errors of libraries repeat the text of their source, which is written only once.
fn write_causes(error: &dyn std::error::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut last = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if words != last {
            write!(f, ": {words}")?;
        }
        last = words;
        next = cause.source();
    }
    Ok(())
}

impl Error {
    pub(crate) fn new(operation: impl Into<String>, kind: ErrorKind) -> Error {
        Error { operation: operation.into(), kind: Box::new(kind), cause: None, answer: None }
    }

    pub(crate) fn io(operation: &str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::new(operation, ErrorKind::Io { path: path.into(), source })
    }

    pub(crate) fn caused_by(self, cause: impl Into<Cause>) -> Error {
        Error { cause: Some(cause.into()), ..self }
    }

    pub(crate) fn answered(self, code: i32, details: &[u8]) -> Error {
        let answer = Answer { code, details: details.to_owned() };
        Error { answer: Some(Box::new(answer)), ..self }
    }

    /// The server's answer; `None` if there was none, or if the server was not asked.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_deref()
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

/// Why an operation failed. The texts are the server's own, unless there was no answer.
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
    #[non_exhaustive]
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
    #[non_exhaustive]
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
    #[non_exhaustive]
    Server {
        /// Name of the gRPC status code.
        code: &'static str,
        /// The server's words.
        message: String,
    },
    /// A file, pipe or socket on this side.
    #[error("{}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was operated on.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A config.json, or a file of an event follower, that cannot be made or understood.
    #[error("{}", path.display())]
    #[non_exhaustive]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One malformed field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(error: &Error) -> Vec<String> {
        let mut words = vec![error.to_string()];
        let mut next = std::error::Error::source(error);
        while let Some(error) = next {
            words.push(error.to_string());
            next = error.source();
        }
        words
    }

    #[test]
    fn no_error_repeats_what_its_source_says() {
        let full = || io::Error::from_raw_os_error(28);
        let words = full().to_string();
        let file = Error::io("write config", "/run/web/config.json", full());
        assert_eq!(chain(&file), ["write config: /run/web/config.json", &words]);
        assert_eq!(format!("{file:#}"), format!("write config: /run/web/config.json: {words}"));

        let gone = Error::new("list containers", ErrorKind::Unavailable("no answer".into()));
        assert_eq!(chain(&gone), ["list containers: no answer"]);
        let gone = gone.caused_by(full());
        assert_eq!(chain(&gone), ["list containers: no answer", &words]);
    }

    #[test]
    fn words_that_a_library_repeats_are_shown_once() {
        let cause = tonic::ConnectError(Box::new(io::Error::from_raw_os_error(111)));
        let gone = Error::new("a", ErrorKind::Unavailable("no server".into())).caused_by(cause);
        assert_eq!(format!("{gone:#}"), "a: no server: Connection refused (os error 111)");
    }
}
