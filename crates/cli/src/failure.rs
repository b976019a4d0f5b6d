//! How a command ends when it fails: a message for people and an exit status for scripts.

use std::{
    fmt::{self, Display},
    io,
    process::ExitCode,
};

use gantry_client::{Error, ErrorKind};

/// What every command returns.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// `run` and `exec` could not start anything, as opposed to what the container exits with.
pub(crate) const OWN_FAILURE: u8 = 125;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
    /// Nobody reads standard output any more, so no message is printed.
    silent: bool,
    /// The server does not have what was asked.
    unimplemented: bool,
    /// The server was not reached.
    away: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        let (silent, unimplemented, away) = (false, false, false);
        Failure { message: message.into(), code: 1, silent, unimplemented, away }
    }

    /// Of a call that the server does not have.
    pub(crate) fn unimplemented(message: impl Into<String>) -> Failure {
        Failure { unimplemented: true, ..Failure::new(message) }
    }

    /// Whether the server does not have what was asked, as one without containerd's API.
    pub(crate) fn is_unimplemented(&self) -> bool {
        self.unimplemented
    }

    /// Of a call that has not reached a server, if that is so.
    pub(crate) fn away_if(self, away: bool) -> Failure {
        Failure { away, ..self }
    }

    /// Whether the server was not reached, as one that is being restarted.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// Of a local file or device.
    pub(crate) fn io(what: impl Display, error: &io::Error) -> Failure {
        Failure::new(format!("{what}: {error}"))
    }

    /// Of standard output.
    pub(crate) fn output(error: &io::Error) -> Failure {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        Failure { silent, ..Failure::io("write output", error) }
    }

    /// Of a start: 127 and 126 as a shell exits, everything else is Gantry's own.
    pub(crate) fn of_start(error: &Error) -> Failure {
        let code = match error.start_exit_code() {
            code @ (126 | 127) => code,
            _ => OWN_FAILURE,
        };
        Failure { code, ..Failure::new(with_hint(error)) }
    }

    /// Of the start of a program in containerd's API: 127 and 126 as a shell exits, everything else is Gantry's own.
    pub(crate) fn of_task_start(what: &str, status: &tonic::Status, program: &str) -> Failure {
        let code = match gantry_client::start_exit_code(status.message(), Some(program)) {
            code @ (126 | 127) => code,
            _ => OWN_FAILURE,
        };
        Failure { code, ..crate::containerd::failed(what, status) }
    }

    /// Of what `run` and `exec` do around a start.
    pub(crate) fn own(self) -> Failure {
        Failure { code: OWN_FAILURE, ..self }
    }

    /// Of several things that were done one after the other, each whether or not others failed.
    pub(crate) fn all(failures: Vec<Failure>) -> Result<(), Failure> {
        let mut failures = failures.into_iter();
        let Some(first) = failures.next() else { return Ok(()) };
        let message = failures.fold(first.message, |all, next| all + "\ngantry: " + &next.message);
        Err(Failure { message, ..first })
    }

    /// Prints the message of something that is no reason to stop.
    pub(crate) fn warn(&self) {
        eprintln!("gantry: {}", self.message.trim_end());
    }

    /// Prints the message; the process exits with what this returns.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.silent {
            eprintln!("gantry: {}", self.message.trim_end());
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.trim_end())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let away = matches!(error.kind(), ErrorKind::Unavailable(_));
        Failure::new(with_hint(&error)).away_if(away)
    }
}

fn with_hint(error: &Error) -> String {
    let hint = match error.kind() {
        ErrorKind::Unavailable(_) => " (is gantryd running?)",
        ErrorKind::PermissionDenied(_) => " (may this user use gantryd?)",
        _ => "",
    };
    format!("{error:#}{hint}")
}

/// The exit status of a process that ran.
pub(crate) fn exit_code(status: u32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
