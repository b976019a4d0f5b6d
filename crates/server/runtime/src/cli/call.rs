//! One call of a runtime, from start to end.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use gantry_domain::ExitStatus;
use gantry_kernel::MortalCommand;
use gantry_shim_proto::WaitStatus;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    OciError, OciRuntime, Outcome, Runtimes, Verb,
    output::{LIMIT, Output},
};
use crate::traced;

/// How long a runtime may take to print its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// How long a killed runtime may take to end.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A sub-command, its arguments and what it reads on its stdin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) verb: Verb,
    pub(super) args: &'a [&'a str],
    pub(super) input: Option<&'a [u8]>,
    /// One more variable of its environment.
    pub(super) env: Option<(&'static str, &'a Path)>,
    /// Directories that appear empty to the runtime.
    pub(super) hidden: &'a [&'a Path],
}

/// How the wait for a runtime ended.
enum End {
    Ended(ExitStatus),
    TookTooLong,
    WroteTooMuch,
}

impl<'a> Call<'a> {
    pub(super) fn new(verb: Verb, args: &'a [&'a str]) -> Self {
        Self { verb, args, input: None, env: None, hidden: &[] }
    }
}

impl Runtimes {
    /// Runs a sub-command to its end and returns its output. The output is read as it comes, so
    /// that the runtime never waits for a reader, and takes no more memory than an
    /// [`Output`] keeps.
    pub(super) async fn call(
        &self,
        runtime: &OciRuntime,
        call: Call<'_>,
    ) -> Result<Vec<u8>, OciError> {
        let span = runtime.step(call.verb);
        let ended = |status: ExitStatus| {
            if let ExitStatus::Code(code) = status {
                span.record("process.exit.code", i64::from(code));
            }
        };
        let measuring = self.calls.begin(call.verb);
        let result = traced(span.clone(), self.run(runtime, call, ended)).await;
        measuring.end(Outcome::of(&result));
        result
    }

    async fn run(
        &self,
        runtime: &OciRuntime,
        call: Call<'_>,
        has_ended: impl Fn(ExitStatus),
    ) -> Result<Vec<u8>, OciError> {
        let verb = call.verb;
        let failed = |cause| OciError::System { what: format!("run the runtime's {verb}"), cause };
        let (mut output, output_writer) = Output::pipe().map_err(failed)?;
        let (mut errors, errors_writer) = Output::pipe().map_err(failed)?;
        let streams = [stdin(call.input).map_err(failed)?, output_writer, errors_writer];
        let mut command = self.command(runtime, call, streams).map_err(failed)?;
        command.work_in(self.working_directory(runtime).await);
        command.execute_copy(self.in_memory.copy_of(&runtime.program).await);
        let (pid, mut ended) = self
            .reaper
            .spawn(|| command.spawn())
            .map_err(|cause| OciError::exec(runtime, false, cause))?;
        // This closes the writing ends of the pipes.
        drop(command);
        let error = match self.end(&mut ended, [&mut output, &mut errors]).await {
            End::Ended(status) => {
                has_ended(status);
                return match status {
                    ExitStatus::Code(0) => Ok(output.finish()),
                    _ => Err(refused(verb, &errors.finish(), status)),
                };
            }
            End::TookTooLong => OciError::Deadline { verb, after: self.deadline },
            End::WroteTooMuch => OciError::Endless { verb, limit: LIMIT },
        };
        self.reaper.kill_group(pid);
        // It is reaped in any case; this only keeps the order of events plausible.
        let _ = timeout(KILL_GRACE, ended).await;
        Err(error)
    }

    /// The runtime's bundle; none if it cannot be opened, as after an end that nobody saw.
    async fn working_directory(&self, runtime: &OciRuntime) -> Option<OwnedFd> {
        let bundle = runtime.bundle.clone()?;
        self.files.run(move |_| File::open(bundle)).await.ok().map(OwnedFd::from)
    }

    /// Why a runtime can do nothing at all: its message when it cannot even print its version. Asked
    /// for where a launch has failed without a message, since the launch wrote to a stream of the caller's.
    pub async fn why_it_cannot_run(&self, runtime: &OciRuntime) -> Option<String> {
        let runtimes = Self { deadline: self.deadline.min(VERSION_DEADLINE), ..self.clone() };
        match runtimes.call(runtime, Call::new(Verb::Version, &[])).await {
            Ok(_) | Err(OciError::Wordless { .. }) => None,
            Err(OciError::Refused { message, .. }) => Some(message),
            Err(error) => Some(error.to_string()),
        }
    }

    async fn end(
        &self,
        ended: &mut oneshot::Receiver<ExitStatus>,
        [output, errors]: [&mut Output; 2],
    ) -> End {
        tokio::select! {
            biased;
            status = ended => End::Ended(status.unwrap_or(ExitStatus::Unknown)),
            () = output.overflow() => End::WroteTooMuch,
            () = errors.overflow() => End::WroteTooMuch,
            () = sleep(self.deadline) => End::TookTooLong,
        }
    }

    fn command(
        &self,
        runtime: &OciRuntime,
        Call { verb, args, env, hidden, .. }: Call<'_>,
        streams: [OwnedFd; 3],
    ) -> io::Result<MortalCommand> {
        let mut command = MortalCommand::new(&runtime.program, streams)?;
        command.args(&runtime.args)?;
        command.args(["--log-format", "json", verb.name()])?;
        command.args(args)?;
        for line in self.environment.lines(&runtime.variables) {
            command.env(line)?;
        }
        if let Some((name, value)) = env {
            command.env(format!("{name}={}", value.display()))?;
        }
        command.hide(hidden)?;
        Ok(command)
    }
}

fn refused(verb: Verb, said: &[u8], status: ExitStatus) -> OciError {
    let status = match status {
        ExitStatus::Code(code) => WaitStatus::Code(code),
        ExitStatus::Signal(signal) => WaitStatus::Signal(signal),
        ExitStatus::Unknown => WaitStatus::Code(u8::MAX),
    };
    OciError::refused(verb, &String::from_utf8_lossy(said), status)
}

fn stdin(content: Option<&[u8]>) -> io::Result<OwnedFd> {
    let Some(content) = content else { return Ok(File::open("/dev/null")?.into()) };
    let mut file: File = memfd_create("runtime", MFdFlags::MFD_CLOEXEC)?.into();
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
