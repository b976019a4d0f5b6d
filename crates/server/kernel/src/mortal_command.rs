//! Children that must not outlive the server.
#![allow(unsafe_code, reason = "code between clone and exec")]

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::Path,
    ptr,
    sync::Arc,
};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, clone, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
    },
    unistd::{Pid, fchdir, getpid, getppid, setpgid},
};

/// In bytes: far more than the few calls before the exec need.
const STACK: usize = 64 << 10;

/// A program that the kernel kills when the server dies: a runtime's `pause` that outlives the server, say,
/// would otherwise take effect after the next server has read whether the container is paused. It leads a process
/// group of its own.
///
/// `std`'s `Command` would fork for that, which copies the server's page tables and then every page
/// that the server writes to, a third of its CPU time. This shares the server's memory until the
/// exec, as vfork(2) does.
pub struct MortalCommand {
    argv: Vec<CString>,
    /// What is executed in place of the program, if that can be.
    copy: Option<Arc<OwnedFd>>,
    env: Vec<CString>,
    streams: [OwnedFd; 3],
    directory: Option<OwnedFd>,
    hidden: Vec<CString>,
}

impl MortalCommand {
    /// `streams` are what is to be its standard input, output and error. Its environment is empty
    /// until [`Self::env`] is called.
    pub fn new(program: &Path, streams: [OwnedFd; 3]) -> io::Result<Self> {
        let argv = vec![c_string(program.as_os_str().to_owned())?];
        let (env, hidden) = (Vec::new(), Vec::new());
        Ok(Self { argv, copy: None, env, streams, directory: None, hidden })
    }

    /// Its working directory, which is the server's otherwise. It is open already, as the server waits for the child on the
    /// way there.
    pub fn work_in(&mut self, directory: Option<OwnedFd>) {
        self.directory = directory;
    }

    /// Has a copy of the program executed, which is an open file; the program itself if the kernel refuses that.
    pub fn execute_copy(&mut self, copy: Option<Arc<OwnedFd>>) {
        self.copy = copy;
    }

    /// # Errors
    /// If an argument has a NUL byte.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> io::Result<()> {
        for arg in args {
            self.argv.push(c_string(arg.as_ref().to_owned())?);
        }
        Ok(())
    }

    /// One more variable of its environment, `NAME=VALUE`.
    pub fn env(&mut self, variable: impl Into<OsString>) -> io::Result<()> {
        self.env.push(c_string(variable.into())?);
        Ok(())
    }

    /// Has the program find these directories empty, in a mount namespace of its own.
    pub fn hide(&mut self, dirs: &[&Path]) -> io::Result<()> {
        for dir in dirs {
            self.hidden.push(c_string(dir.as_os_str().to_owned())?);
        }
        Ok(())
    }

    /// PR_SET_PDEATHSIG fires when the forking *thread* exits, see prctl(2): call this on tokio's workers,
    /// never from spawn_blocking.
    pub fn spawn(&self) -> io::Result<u32> {
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let server = getpid();
        let mut failure = None;
        let child = Box::new(|| {
            let Err(errno) = self.become_program(server, &argv, &env);
            failure = Some(errno);
            // SAFETY: ends the child alone, and runs nothing of the server's.
            unsafe { libc::_exit(127) }
        });
        // No handler of the server's may run in the child, which shares its memory.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let mut stack = vec![0; STACK];
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: the calling thread waits until the child has executed the program or is gone, so
        // that stack and closure outlive it; the closure makes system calls only.
        let pid = unsafe { clone(child, &mut stack, flags, Some(libc::SIGCHLD)) };
        mask.thread_set_mask()?;
        match (pid?, failure) {
            (_, Some(errno)) => Err(errno.into()),
            (pid, None) => Ok(pid.as_raw().cast_unsigned()),
        }
    }

    /// Runs in the child: nothing here may allocate, lock or panic.
    fn become_program(
        &self,
        server: Pid,
        argv: &[*const libc::c_char],
        env: &[*const libc::c_char],
    ) -> Result<std::convert::Infallible, Errno> {
        set_pdeathsig(Signal::SIGKILL)?;
        // The server may have died before the signal was set.
        if getppid() != server {
            return Err(Errno::ESRCH);
        }
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if let Some(directory) = &self.directory {
            fchdir(directory)?;
        }
        self.enter_own_mounts()?;
        for (stream, target) in self.streams.iter().zip(0..) {
            // SAFETY: the descriptor is open, and the child's standard ones are nobody's.
            Errno::result(unsafe { libc::dup2(stream.as_raw_fd(), target) })?;
        }
        reset_dispositions();
        crate::restore_file_limit(0)?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        if let Some(copy) = &self.copy {
            let (execveat, copy) = (libc::SYS_execveat, copy.as_raw_fd());
            let (argv, env) = (argv.as_ptr(), env.as_ptr());
            // SAFETY: all arrays are of C strings that live on, and end with a null pointer.
            unsafe { libc::syscall(execveat, copy, c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH) };
        }
        // SAFETY: as above.
        unsafe { libc::execve(argv[0], argv.as_ptr(), env.as_ptr()) };
        Err(Errno::last())
    }
}

impl MortalCommand {
    /// Runs in the child, as its caller does.
    fn enter_own_mounts(&self) -> Result<(), Errno> {
        if self.hidden.is_empty() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        let mount = |source: &CStr, target: &CStr, flags, data: &CStr| {
            let tmpfs = c"tmpfs".as_ptr();
            // SAFETY: all are C strings that live on.
            let mounted = unsafe {
                libc::mount(source.as_ptr(), target.as_ptr(), tmpfs, flags, data.as_ptr().cast())
            };
            Errno::result(mounted).map(drop)
        };
        // What is mounted here must not be seen outside.
        mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, c"")?;
        for dir in &self.hidden {
            mount(c"none", dir, libc::MS_RDONLY, c"size=0,mode=500")?;
        }
        Ok(())
    }
}

/// Sets every signal to its default, in the child alone: the program would inherit ignored signals, and a handler
/// would run in the server's memory.
fn reset_dispositions() {
    for signal in 1..=64 {
        crate::signals::set_disposition(signal, libc::SIG_DFL);
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, pipe},
    };

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    fn command(program: &str, output: OwnedFd) -> MortalCommand {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        MortalCommand::new(Path::new(program), [null(), output, null()]).unwrap()
    }

    #[test]
    fn a_program_gets_arguments_environment_and_a_clean_slate() {
        let (mut reader, writer) = pipe().unwrap();
        let mut command = command("/bin/sh", writer.into());
        let script = r#"echo "$1 $VARIABLE"; grep -E 'Sig(Blk|Ign)' /proc/self/status; exit 7"#;
        command.args(["-c", script, "sh", "argument"]).unwrap();
        command.env("VARIABLE=value").unwrap();
        command.env("PATH=/usr/bin:/bin").unwrap();
        let pid = command.spawn().unwrap();
        drop(command);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let none = "0".repeat(16);
        assert_eq!(output, format!("argument value\nSigBlk:\t{none}\nSigIgn:\t{none}\n"));
        let pid = Pid::from_raw(pid.cast_signed());
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 7)));
    }

    #[test]
    fn a_program_works_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        let mut command = command("/bin/pwd", writer.into());
        command.work_in(Some(File::open(dir.path()).unwrap().into()));
        let pid = Pid::from_raw(command.spawn().unwrap().cast_signed());
        drop(command);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert_eq!(Path::new(output.trim_end()), dir.path().canonicalize().unwrap());
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let (_, writer) = pipe().unwrap();
        let error = command("/nonexistent", writer.into()).spawn().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn it_dies_with_the_thread_that_has_started_it() {
        let (_, writer) = pipe().unwrap();
        let mut command = command("/bin/sleep", writer.into());
        command.args(["1000"]).unwrap();
        let pid = std::thread::spawn(move || command.spawn().unwrap()).join().unwrap();
        let pid = Pid::from_raw(pid.cast_signed());
        let killed = WaitStatus::Signaled(pid, Signal::SIGKILL, false);
        assert_eq!(waitpid(pid, None), Ok(killed));
    }
}
