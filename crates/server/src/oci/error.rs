//! What can go wrong with a runtime.

use std::{io, path::PathBuf, time::Duration};

use gantry_shim_proto::{LaunchError, WaitStatus};

use super::log;

/// A runtime call that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// There is no such program.
    #[error("oci runtime error: runtime {runtime:?}: executable file not found")]
    Missing { runtime: String },
    /// It ran, and said no.
    #[error("oci runtime error: {message}")]
    Refused { message: String },
    /// Somebody killed it.
    #[error("oci runtime error: the runtime was killed by signal {signal}")]
    Killed { signal: u8 },
    /// It did not finish in time and was killed.
    #[error("runtime {verb} did not finish within {} s and was killed", .after.as_secs_f32())]
    Deadline { verb: &'static str, after: Duration },
    /// A stream of the process could not be opened.
    #[error("{path}: {source}", path = .path.display())]
    Stdio { path: PathBuf, source: io::Error },
    /// It could not be run at all.
    #[error("cannot {what}: {source}")]
    System { what: String, source: io::Error },
}

impl OciError {
    /// From what a shim says, and the log that the runtime left.
    pub(crate) fn from_launch(error: LaunchError, log: Option<&str>) -> Self {
        match error {
            LaunchError::Stdio { path, errno } => Self::Stdio {
                path: PathBuf::from(path),
                source: io::Error::from_raw_os_error(errno),
            },
            LaunchError::System { what, errno } => {
                Self::System { what, source: io::Error::from_raw_os_error(errno) }
            }
            LaunchError::Exec { errno } => Self::System {
                what: "execute the runtime".to_owned(),
                source: io::Error::from_raw_os_error(errno),
            },
            LaunchError::Runtime { status } => Self::refused(log, status),
            LaunchError::Aborted => Self::Refused { message: "the launch was given up".to_owned() },
        }
    }

    /// From a runtime's log, or its stderr if it did not get that far.
    pub(crate) fn refused(output: Option<&str>, status: WaitStatus) -> Self {
        match (status, output.and_then(log::last_error)) {
            (WaitStatus::Signal(signal), _) => Self::Killed { signal },
            (WaitStatus::Code(_), Some(said)) => {
                Self::Refused { message: log::with_common_phrases(said) }
            }
            (WaitStatus::Code(code), None) => Self::Refused {
                message: format!("exit status {code}, and no word in the runtime's log"),
            },
        }
    }

    /// Whether the runtime could not do what config.json or the process asks for.
    pub(crate) fn blames_the_bundle(&self) -> bool {
        matches!(self, Self::Refused { message } if log::has_common_phrase(message))
    }

    /// Whether the runtime refused because it has a container of this id already.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { message } if message.contains("already exists"))
    }
}
