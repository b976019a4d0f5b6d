//! What can go wrong with a runtime.

use std::{io, path::PathBuf, time::Duration};

use gantry_shim_proto::{LaunchError, WaitStatus};
use nix::libc;

use super::{
    OciRuntime, Verb,
    words::{self, Reason},
};

/// A runtime call that failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OciError {
    /// There is no program of this name on PATH.
    #[error("oci runtime error: exec: {runtime:?}: executable file not found in $PATH")]
    NotOnPath { runtime: String, by_caller: bool },
    /// The program cannot be executed, perhaps only at the moment.
    #[error("oci runtime error: fork/exec {path}: {}", plain(.cause), path = .program.display())]
    Exec {
        program: PathBuf,
        /// The container's creator has named the runtime, not the server's configuration.
        by_caller: bool,
        cause: io::Error,
    },
    /// It ran, and reported an error.
    #[error("oci runtime error: {message}")]
    Refused { reason: Reason, message: String },
    /// It ran, and failed without a message.
    #[error("oci runtime error: exit status {code}, and no word in the runtime's log{more}")]
    Wordless { code: u8, more: String },
    /// Somebody killed it.
    #[error(
        "oci runtime error: the runtime was killed by signal {signal}{}{}",
        if .said.is_empty() { "" } else { ": " },
        .said
    )]
    Killed { signal: u8, said: String },
    /// It did not finish in time and was killed.
    #[error("runtime {verb} did not finish within {} s and was killed", .after.as_secs_f32())]
    Deadline { verb: Verb, after: Duration },
    /// It wrote more than the limit and was killed.
    #[error("runtime {verb} wrote more than {} MiB and was killed", .limit >> 20)]
    Endless { verb: Verb, limit: u64 },
    /// A stream of the process could not be opened.
    #[error("{stream}: {path}: {cause}", path = .path.display())]
    Stdio { stream: &'static str, path: PathBuf, cause: io::Error },
    /// The system failed the server, or the shim.
    #[error("cannot {what}: {cause}")]
    System { what: String, cause: io::Error },
}

impl OciError {
    /// From a shim's report, and the log that the runtime left.
    pub fn from_launch(
        error: LaunchError,
        runtime: &OciRuntime,
        verb: Verb,
        log: Option<&str>,
    ) -> Self {
        match error {
            LaunchError::Stdio { path, errno } => Self::Stdio {
                // A shim does not know which stream it is.
                stream: "stdio",
                path: PathBuf::from(path),
                cause: io::Error::from_raw_os_error(errno),
            },
            LaunchError::System { what, errno } => {
                Self::System { what, cause: io::Error::from_raw_os_error(errno) }
            }
            LaunchError::Exec { errno } => {
                Self::exec(runtime, runtime.by_caller, io::Error::from_raw_os_error(errno))
            }
            LaunchError::Runtime { status, printed } => match log {
                Some(log) if words::last_word(log).is_some() => Self::refused(verb, log, status),
                _ => Self::without_log(verb, &printed, status),
            },
            LaunchError::Uri { uri, why } => Self::Stdio {
                stream: "stdio",
                path: PathBuf::from(uri),
                cause: io::Error::other(why),
            },
            LaunchError::Aborted => Self::Refused {
                reason: Reason::Other,
                message: "the launch was given up".to_owned(),
            },
        }
    }

    /// From what a runtime has printed, if that is known, which failed before it wrote a log.
    fn without_log(verb: Verb, printed: &str, status: WaitStatus) -> Self {
        match (status, words::printed(verb, printed)) {
            (WaitStatus::Signal(signal), said) => {
                Self::Killed { signal, said: said.map(|(_, said)| said).unwrap_or_default() }
            }
            (WaitStatus::Code(code), Some((reason, said))) => Self::Refused {
                reason,
                message: format!(
                    "exit status {code}, and no word in the runtime's log, but: {said}"
                ),
            },
            (WaitStatus::Code(code), None) => {
                let more =
                    "; what it may have printed went to the stderr of the process".to_owned();
                Self::Wordless { code, more }
            }
        }
    }

    /// From a runtime's log, or its stderr if it did not get that far.
    pub(super) fn refused(verb: Verb, output: &str, status: WaitStatus) -> Self {
        match (status, words::last_word(output)) {
            (WaitStatus::Signal(signal), said) => {
                Self::Killed { signal, said: words::passed_on(&said.unwrap_or_default()) }
            }
            (WaitStatus::Code(_), Some(said)) => {
                let reason = words::reason(verb, &said);
                Self::Refused { reason, message: words::passed_on(&said) }
            }
            (WaitStatus::Code(code), None) => Self::Wordless { code, more: String::new() },
        }
    }

    /// The program that the kernel would not execute.
    pub(super) fn exec(runtime: &OciRuntime, by_caller: bool, cause: io::Error) -> Self {
        Self::Exec { program: runtime.program.clone(), by_caller, cause }
    }

    /// Whether the caller's request cannot be run, or names something that is not there.
    pub fn blames_the_request(&self) -> bool {
        match self {
            Self::NotOnPath { by_caller, .. } | Self::Exec { by_caller, .. } => *by_caller,
            Self::Refused { reason, .. } => *reason == Reason::Request,
            Self::Stdio { .. } => true,
            _ => false,
        }
    }

    /// Whether the host has no more room, memory, descriptors or processes.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Refused { reason, .. } => *reason == Reason::Exhausted,
            Self::Exec { cause, .. } | Self::System { cause, .. } | Self::Stdio { cause, .. } => {
                is_exhausted(cause)
            }
            _ => false,
        }
    }

    /// Whether the runtime refused because it has a container of this id already.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { reason: Reason::Taken, .. })
    }

    /// Whether the runtime says that it has no container of this id, or has a directory for one and
    /// nothing in there.
    pub(crate) fn is_unknown_container(&self) -> bool {
        matches!(self, Self::Refused { reason: Reason::Unknown, .. })
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 6] =
        [libc::ENOSPC, libc::EDQUOT, libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    error.raw_os_error().is_some_and(|errno| EXHAUSTED.contains(&errno))
}

/// An error of the system as Go words it, which is what daemons look for: without its number and
/// without a capital.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_program_that_cannot_be_executed_is_worded_as_go_does() {
        for (errno, words) in [
            (libc::ENOENT, "no such file or directory"),
            (libc::EACCES, "permission denied"),
            (libc::ENOTDIR, "not a directory"),
            (libc::ENOEXEC, "exec format error"),
            (libc::ELOOP, "too many levels of symbolic links"),
            (libc::ENAMETOOLONG, "file name too long"),
        ] {
            let cause = io::Error::from_raw_os_error(errno);
            let error = OciError::Exec { program: "/x/y".into(), by_caller: true, cause };
            assert_eq!(error.to_string(), format!("oci runtime error: fork/exec /x/y: {words}"));
            assert!(error.blames_the_request());
        }
    }

    #[test]
    fn a_host_without_processes_is_nobodys_fault() {
        let cause = io::Error::from_raw_os_error(libc::EAGAIN);
        let error = OciError::Exec { program: "/x/y".into(), by_caller: false, cause };
        assert!(error.is_exhausted() && !error.blames_the_request());
    }

    #[test]
    fn a_runtime_that_is_killed_may_have_said_why() {
        let killed = |output| OciError::refused(Verb::Pause, output, WaitStatus::Signal(6));
        assert_eq!(killed("").to_string(), "oci runtime error: the runtime was killed by signal 6");
        assert_eq!(
            killed("SIGABRT: abort\nPC=0x1\n\nrip 0x1\ngs     0x0\n").to_string(),
            "oci runtime error: the runtime was killed by signal 6: SIGABRT: abort"
        );
    }
}
