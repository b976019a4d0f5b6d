//! One call of a runtime, from start to end.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use gantry_shim_proto::WaitStatus;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::time::timeout;

use super::{OciError, OciRuntime, Runtimes};
use crate::{domain::ExitStatus, sys::MortalCommand};

/// More output than this is not read.
const MAX_OUTPUT: u64 = 1 << 20;

/// How long a killed runtime may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A sub-command, its arguments and what it reads on its stdin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) verb: &'static str,
    pub(super) args: &'a [&'a str],
    pub(super) input: Option<&'a [u8]>,
    /// One more variable of its environment.
    pub(super) env: Option<(&'static str, &'a Path)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(verb: &'static str, args: &'a [&'a str]) -> Self {
        Self { verb, args, input: None, env: None }
    }
}

impl Runtimes {
    /// Runs a sub-command to its end and gives its output. What it says goes into a file in
    /// memory, so that a runtime that talks never waits for a reader.
    pub(super) async fn call(
        &self,
        runtime: &OciRuntime,
        call: Call<'_>,
    ) -> Result<Vec<u8>, OciError> {
        let verb = call.verb;
        let failed =
            |source| OciError::System { what: format!("run the runtime's {verb}"), source };
        let mut output = memory_file().map_err(failed)?;
        let mut errors = memory_file().map_err(failed)?;
        let command = command(runtime, call, [&output, &errors]).map_err(failed)?;
        let (pid, mut ended) = self.reaper.spawn(|| command.spawn()).map_err(failed)?;
        drop(command);
        let Ok(status) = timeout(self.deadline, &mut ended).await else {
            self.reaper.kill_group(pid);
            // It is reaped in any case; this only keeps the order of events plausible.
            let _ = timeout(KILL_GRACE, ended).await;
            return Err(OciError::Deadline { verb, after: self.deadline });
        };
        match status {
            Ok(ExitStatus::Code(0)) => read(&mut output).map_err(failed),
            other => {
                let said = read(&mut errors).map_err(failed)?;
                let status = match other {
                    Ok(ExitStatus::Code(code)) => WaitStatus::Code(code),
                    Ok(ExitStatus::Signal(signal)) => WaitStatus::Signal(signal),
                    Ok(ExitStatus::Unknown) | Err(_) => WaitStatus::Code(u8::MAX),
                };
                Err(OciError::refused(Some(&String::from_utf8_lossy(&said)), status))
            }
        }
    }
}

fn command(
    runtime: &OciRuntime,
    Call { verb, args, input, env }: Call<'_>,
    [output, errors]: [&File; 2],
) -> io::Result<MortalCommand> {
    let streams = [stdin(input)?, output.try_clone()?.into(), errors.try_clone()?.into()];
    let mut command = MortalCommand::new(&runtime.program, streams)?;
    command.args(&runtime.args)?;
    command.args(["--log-format", "json", verb])?;
    command.args(args)?;
    if let Some((name, value)) = env {
        command.env(name, value)?;
    }
    Ok(command)
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("runtime", MFdFlags::MFD_CLOEXEC)?.into())
}

fn stdin(content: Option<&[u8]>) -> io::Result<OwnedFd> {
    let Some(content) = content else { return Ok(File::open("/dev/null")?.into()) };
    let mut file = memory_file()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT).read_to_end(&mut content)?;
    Ok(content)
}
