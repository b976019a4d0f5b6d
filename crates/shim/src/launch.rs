//! Runs the runtime and takes over the process that it started.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{Identity, Launch, LaunchError, PID_FILE, WaitStatus};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::children::wait_status;
use crate::printed::Printed;

/// An error of a system call, as it is reported to the server.
pub(crate) fn system(what: &str) -> impl FnOnce(io::Error) -> LaunchError {
    move |error| LaunchError::System { what: what.to_owned(), errno: errno(&error) }
}

/// Zero where the error is not the kernel's.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// A runtime at work.
pub(crate) struct Runtime {
    child: Child,
    printed: Printed,
}

impl Runtime {
    /// Executes what `launch` says, or a copy of that program, with the standard streams of the process to be if it has no
    /// terminal. Earlier servers relied on the shim's own PATH.
    pub(crate) fn spawn(
        launch: &Launch,
        copy: Option<OwnedFd>,
        streams: Option<[OwnedFd; 3]>,
    ) -> Result<Self, LaunchError> {
        let failed = |error: io::Error| LaunchError::Exec { errno: errno(&error) };
        let mut image = Image::runtime(&launch.argv, &launch.env).map_err(failed)?;
        image.copy = copy;
        let (printed, [stdin, stdout, stderr]) = match streams {
            Some(fds) => (Printed::to(fds[2].as_fd()), fds.map(Stdio::from)),
            None => {
                let (printed, stderr) = match Printed::own() {
                    Ok((printed, stream)) => (printed, stream.into()),
                    Err(_) => (Printed::Nowhere, Stdio::null()),
                };
                (printed, [Stdio::null(), Stdio::null(), stderr])
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the shim is what waits for a runtime")]
        let mut command = Command::new("");
        // A group of its own: what a hook does to its group must not hit the shim.
        command.process_group(0).stdin(stdin).stdout(stdout).stderr(stderr);
        let directory =
            CString::new(launch.directory.as_str()).map_err(|error| failed(error.into()))?;
        crate::sys::become_runtime(&mut command, image, launch.oom_score_adj.clone(), directory);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, printed })
    }

    /// Its status, if it has ended. Reaps no other child, so that the process keeps its pid.
    pub(crate) fn ended(&mut self) -> io::Result<Option<WaitStatus>> {
        Ok(self.child.try_wait()?.map(|status| wait_status(status.into_raw())))
    }

    /// Its standard error, as far as that can still be read.
    pub(crate) fn printed(&self) -> String {
        self.printed.text()
    }

    /// Kills it, and what it started in its process group.
    pub(crate) fn kill(&mut self) {
        // The group's number is not another's as long as the runtime was not waited for.
        if let Ok(None) = self.ended()
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What execve(2) is given: a program, its arguments and its environment.
pub(crate) struct Image {
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// An open file that is executed in place of the program, if the kernel does that.
    pub(crate) copy: Option<OwnedFd>,
}

impl Image {
    /// A runtime, which may be named without a directory.
    fn runtime(argv: &[String], env: &[String]) -> io::Result<Self> {
        if argv.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let mut argv = strings(argv)?;
        if let Some(path) = on_path(&argv[0]) {
            argv[0] = path;
        }
        Self::new(argv, env)
    }

    /// With the shim's PATH, if `env` has none.
    pub(crate) fn new(argv: Vec<CString>, env: &[String]) -> io::Result<Self> {
        let mut env = strings(env)?;
        if !env.iter().any(|line| line.to_bytes().starts_with(b"PATH="))
            && let Some(path) = std::env::var_os("PATH")
        {
            env.push(CString::new([b"PATH=", path.as_bytes()].concat())?);
        }
        Ok(Self { argv, env, copy: None })
    }
}

fn strings(lines: &[String]) -> io::Result<Vec<CString>> {
    lines.iter().map(|line| Ok(CString::new(line.as_str())?)).collect()
}

/// A program that is named without a directory, where PATH has it. gantryd names its runtimes by
/// their paths.
fn on_path(program: &CString) -> Option<CString> {
    let name = Path::new(OsStr::from_bytes(program.as_bytes()));
    if name.as_os_str().as_bytes().contains(&b'/') {
        return None;
    }
    let places = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&places).map(|dir| dir.join(name)).find(|path| path.is_file())?;
    CString::new(found.into_os_string().into_vec()).ok()
}

/// The process that a runtime started, a child of the shim by now.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Identifies the process and writes that down. No child may be reaped before. The process is none of the programs
    /// that the shim has started itself, nor of their children.
    pub(crate) fn adopt(logger: Option<Pid>) -> Result<Self, LaunchError> {
        let pid = read_pid().map_err(system("read the pid file"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| system("open a pidfd")(errno.into()))?;
        let process = Self { pid, pidfd };
        reach(Point::ShimPidfdOpened);
        if !is_descendant(pid, logger) {
            // A runtime may write the pid of another process, which must not be signalled.
            let errno = Errno::CHILD.into();
            return Err(system("find a child in the pid that the runtime named")(errno));
        }
        let identity = process.identity().map_err(system("read the process's identity"))?;
        crate::state::write_started(&identity).map_err(system("write started.json"))?;
        reach(Point::ShimStartedRecorded);
        Ok(process)
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn identity(&self) -> io::Result<Identity> {
        let stat = stat(self.pid)?;
        let start_time = start_time(&stat).ok_or(Errno::INVAL)?;
        let pidfd_inode = rustix::fs::fstat(&self.pidfd)?.st_ino;
        Ok(Identity { pid: self.number(), start_time, pidfd_inode })
    }
}

fn read_pid() -> io::Result<Pid> {
    // If the runtime made something else than a file, it is neither waited for nor read in full.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(PID_FILE)?;
    if !file.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let mut text = String::new();
    file.take(MAX_PID_FILE).read_to_string(&mut text)?;
    positive(&text).ok_or_else(|| Errno::INVAL.into())
}

/// Longer than any pid in decimal, in bytes.
const MAX_PID_FILE: u64 = 32;

fn positive(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse::<u32>().ok()?.try_into().ok()?)
}

/// Whether the process is a child of the shim, or will be as soon as helpers of the runtime that are
/// about to end have ended: crun waits only for a message from its child, not for the child's end. Descendants of
/// the logger do not count.
fn is_descendant(pid: Pid, logger: Option<Pid>) -> bool {
    let shim = rustix::process::getpid();
    // A helper can end between two reads, and then its child has another parent.
    (0..ATTEMPTS).any(|_| {
        let ancestors = std::iter::successors(Some(pid), |pid| parent(&stat(*pid).ok()?));
        let mut ancestors = ancestors.take_while(|ancestor| Some(*ancestor) != logger);
        ancestors.any(|ancestor| ancestor == shim)
    })
}

/// More helpers than any runtime has.
const ATTEMPTS: usize = 8;

fn stat(pid: Pid) -> io::Result<String> {
    let mut file = File::open(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // Longer than the file can be, which is read at once.
    let mut stat = [0; 1024];
    let length = file.read(&mut stat)?;
    Ok(String::from_utf8_lossy(&stat[..length]).into_owned())
}

/// Field 22 of /proc/pid/stat.
fn start_time(stat: &str) -> Option<u64> {
    field(stat, 22)?.parse().ok()
}

/// Field 4 of /proc/pid/stat.
fn parent(stat: &str) -> Option<Pid> {
    positive(field(stat, 4)?)
}

/// A field of /proc/pid/stat from the third on. Field 2, the command in parentheses, may contain
/// both spaces and parentheses itself.
pub(crate) fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(number - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_positive() {
        assert_eq!(positive("17\n"), Pid::from_raw(17));
        for text in ["", "0", "-5", "4294967295", "99999999999", "12x"] {
            assert_eq!(positive(text), None, "{text}");
        }
    }

    #[test]
    fn start_time_behind_an_awkward_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_time(&format!("7 (a) b) c) {fields}")), Some(4711));
        assert_eq!(start_time(&format!("7 (sh) {fields}")), Some(4711));
        assert_eq!(parent(&format!("7 (a) b) c) {fields}")), Pid::from_raw(1));
        assert_eq!(start_time("7 (sh) S 1"), None);
        assert_eq!(start_time(""), None);
    }
}
