//! The program that reads a process's output: `binary://` of containerd.
//!
//! It gets the reading ends of the process's stdout and stderr as descriptors 3 and 4, and as
//! descriptor 5 the writing end of a pipe that it closes when it is ready. It is a child of the shim
//! and lives as long as it has something to read, even if the server and the shim end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gantry_shim_proto::{LaunchError, WaitStatus};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

use crate::children::wait_status;
use crate::launch::Image;
use crate::poll::{EventFlags, Poller, Source};
use crate::stdio::{Program, failed, has_reader};

/// How long it may take to be ready.
pub(crate) const READY_TIME: Duration = Duration::from_secs(10);

/// How long it may live on after the process has ended and the shim has written everything.
const END_TIME: Duration = Duration::from_secs(10);

/// How long it may take to end when it is asked to; containerd kills it after 12 seconds.
const TERM_TIME: Duration = Duration::from_secs(2);

/// The first of its descriptors: stdout, stderr, ready.
const FIRST: RawFd = 3;

/// The first number after its descriptors.
const BEHIND: RawFd = FIRST + 3;

/// Most bytes of a URI in a report: a server accepts records of 8 KiB.
const LONGEST_URI: usize = 4096;

/// A URI that cannot be served, and why.
pub(crate) fn refused(uri: &str, why: &str) -> LaunchError {
    let end = (0..=uri.len().min(LONGEST_URI)).rev().find(|at| uri.is_char_boundary(*at));
    LaunchError::Uri { uri: uri[..end.unwrap_or(0)].to_owned(), why: why.to_owned() }
}

/// A program that reads output.
pub(crate) struct Logger {
    uri: String,
    pid: Pid,
    ended: bool,
    says_ready: bool,
    /// The pipe by which it reports that it is ready, until it has.
    ready: Option<OwnedFd>,
    /// A writing end, to see whether there is a reader. Closed once the process runs: it would keep the
    /// output from ending.
    probe: Option<OwnedFd>,
    ending: Ending,
}

/// What is done to make it end.
#[derive(Clone, Copy)]
enum Ending {
    /// Nothing: it may still have something to read.
    Reads,
    /// It has time until then to end by itself, or else gets this signal.
    Signal(Instant, Signal),
    /// It was killed, and the kernel is given time to end it.
    Killed(Instant),
    /// The kernel holds it, on a disk that does not answer, say. The shim exits without waiting further.
    Stuck,
}

impl Logger {
    /// Executes it; returns what is to be written to, with `mode`.
    pub(crate) fn start(
        poller: &Poller,
        uri: &str,
        program: Program,
        env: &[String],
        mode: OFlags,
    ) -> Result<(Self, [OwnedFd; 2]), LaunchError> {
        let says_ready = program.says_ready;
        let start = || -> io::Result<(Self, [OwnedFd; 2])> {
            let image = Image::new(program.argv, env)?;
            let pipe = || pipe_with(PipeFlags::CLOEXEC);
            let [(out, stdout), (err, stderr), (ready, say_ready)] = [pipe()?, pipe()?, pipe()?];
            for writer in [&stdout, &stderr] {
                fcntl_setfl(writer, OFlags::WRONLY | mode)?;
            }
            fcntl_setfl(&ready, OFlags::RDONLY | OFlags::NONBLOCK)?;
            poller.watch(&ready, Source::Logger, EventFlags::IN)?;
            let probe = Some(stdout.try_clone()?);
            let pid = execute(image, &[out, err, say_ready])?;
            let (uri, ready) = (uri.to_owned(), Some(ready));
            let ending = Ending::Reads;
            let logger = Self { uri, pid, ended: false, says_ready, ready, probe, ending };
            Ok((logger, [stdout, stderr]))
        };
        start().map_err(failed(uri))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it is ready by now: it has written a byte, or has closed the pipe, which only counts where
    /// the URI does not ask for the byte.
    pub(crate) fn is_ready(&mut self) -> Result<bool, LaunchError> {
        let Some(ready) = &self.ready else { return Ok(true) };
        let length = match read(ready, &mut [0; 1][..]) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            length => length.map_err(|errno| failed(&self.uri)(errno.into()))?,
        };
        self.ready = None;
        self.check()?;
        if length == 0 && self.says_ready {
            return Err(refused(&self.uri, "the program did not say that it is ready"));
        }
        Ok(true)
    }

    /// It has taken too long.
    pub(crate) fn unready(&self) -> LaunchError {
        let why = format!("the program was not ready within {} s", READY_TIME.as_secs());
        refused(&self.uri, &why)
    }

    /// To be called before the process runs: an error if the program has ended, unless it did so in
    /// order and has left somebody who reads.
    pub(crate) fn check(&mut self) -> Result<(), LaunchError> {
        if self.ended {
            return Ok(());
        }
        let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG) else {
            return Ok(());
        };
        self.ended = true;
        let how = match wait_status(status.as_raw()) {
            WaitStatus::Code(0) if self.probe.as_ref().is_some_and(has_reader) => return Ok(()),
            WaitStatus::Code(code) => format!("exit status {code}"),
            WaitStatus::Signal(signal) => format!("signal {signal}"),
        };
        let why = format!("the program ended with {how} before the process was started");
        Err(refused(&self.uri, &why))
    }

    /// The process runs: from now on its output ends when nobody writes any more.
    pub(crate) fn process_runs(&mut self) {
        self.probe = None;
    }

    /// A child was reaped, which may have been this one.
    pub(crate) fn reaped(&mut self, pid: Pid) {
        self.ended |= pid == self.pid;
    }

    /// Whether the shim need not wait for it.
    pub(crate) fn is_over(&self) -> bool {
        self.ended || matches!(self.ending, Ending::Stuck)
    }

    /// The process has ended, and the shim writes no more.
    pub(crate) fn expect_end(&mut self) {
        if let Ending::Reads = self.ending {
            self.ending = Ending::Signal(Instant::now() + END_TIME, Signal::TERM);
        }
    }

    /// When the next step of its end is due.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        match self.ending {
            Ending::Signal(time, _) | Ending::Killed(time) if !self.ended => Some(time),
            _ => None,
        }
    }

    pub(crate) fn hurry(&mut self) {
        let later = Instant::now() + TERM_TIME;
        if let Ending::Signal(_, signal) = self.ending {
            // Its pid is not reused before it is waited for. Others in its group read
            // the same output.
            let _ = kill_process_group(self.pid, signal);
        }
        self.ending = match self.ending {
            Ending::Reads => Ending::Reads,
            Ending::Signal(_, Signal::TERM) => Ending::Signal(later, Signal::KILL),
            Ending::Signal(..) => Ending::Killed(later),
            Ending::Killed(_) | Ending::Stuck => Ending::Stuck,
        };
    }
}

fn execute(image: Image, fds: &[OwnedFd; 3]) -> io::Result<Pid> {
    // The numbers that the program's descriptors are to have must not be used by descriptors of std, nor by
    // these descriptors now.
    let mut taken = vec![fcntl_dupfd_cloexec(&fds[0], FIRST)?];
    while taken.last().is_some_and(|fd| fd.as_raw_fd() < BEHIND) {
        taken.push(fcntl_dupfd_cloexec(&fds[0], FIRST)?);
    }
    let [stdout, stderr, ready] = fds;
    let elsewhere = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, BEHIND);
    let fds = [elsewhere(stdout)?, elsewhere(stderr)?, elsewhere(ready)?];
    #[expect(clippy::disallowed_methods, reason = "the shim is what waits for a logger")]
    let mut command = Command::new("");
    // The shim's directory is removed with the container. A process group of its own, to be killed as one.
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    crate::sys::become_logger(&mut command, image, FIRST, fds);
    Ok(Pid::from_child(&command.spawn()?))
}
