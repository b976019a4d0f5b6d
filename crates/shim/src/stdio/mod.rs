//! Opens the caller's stdio paths: named pipes so that neither end ever waits for the other.

mod outputs;
mod uri;

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use gantry_shim_proto::LaunchError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, openat, stat};
use rustix::io::Errno;

pub(crate) use outputs::Outputs;
pub(crate) use uri::Program;

const NULL: &str = "/dev/null";

/// Where the process's input comes from.
pub(crate) enum Input {
    /// A named pipe, which the shim reads. Never at its end, since it is open for writing too.
    Pipe(OwnedFd),
    /// A file to be read by the process itself.
    File(OwnedFd),
}

/// A named pipe that the process writes to, open at both ends: the process gets no SIGPIPE, and
/// readers get no end of file, however callers come and go.
pub(crate) struct OutputPipe(OwnedFd);

/// Where the process's output goes.
pub(crate) struct Output {
    /// The end to write to.
    pub(crate) writer: OwnedFd,
    /// Kept by the shim if it is a named pipe.
    pub(crate) pipe: Option<OutputPipe>,
}

pub(crate) fn open_input(path: &str) -> Result<Input, LaunchError> {
    let open_path = || match path {
        "" => open(NULL, OFlags::RDONLY).map(Input::File),
        path if is_pipe(path)? => open(path, OFlags::RDWR | OFlags::NONBLOCK).map(Input::Pipe),
        path => open(path, OFlags::RDONLY).and_then(no_directory).map(Input::File),
    };
    open_path().map_err(failed(path))
}

/// Refuses a directory, which can be opened but not read by the process.
fn no_directory(file: OwnedFd) -> io::Result<OwnedFd> {
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Ok(file),
    }
}

/// `mode` goes to a pipe's writer: the process expects a blocking one, the shim's loop does not.
pub(crate) fn open_output(path: impl AsRef<Path>, mode: OFlags) -> io::Result<Output> {
    match path.as_ref() {
        path if path.as_os_str().is_empty() => {
            open(NULL, OFlags::WRONLY).map(|writer| Output { writer, pipe: None })
        }
        path if is_pipe(path)? => OutputPipe::open(path).and_then(|pipe| {
            let writer = reopen(&pipe.0, OFlags::WRONLY | mode)?;
            Ok(Output { writer, pipe: Some(pipe) })
        }),
        path => {
            open(path, OFlags::WRONLY | OFlags::APPEND).map(|writer| Output { writer, pipe: None })
        }
    }
}

/// As [`open_output`]; a file that is missing is made, and its directories too, as containerd does.
pub(crate) fn make_output(path: &Path, mode: OFlags) -> io::Result<Output> {
    match open_output(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let writer = openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
    Ok(Output { writer, pipe: None })
}

impl OutputPipe {
    fn open(path: &Path) -> io::Result<Self> {
        open(path, OFlags::RDWR | OFlags::NONBLOCK).map(Self)
    }

    /// Whether somebody else reads it. The shim's own reading end has to be closed to see that,
    /// so that for a moment a writer could get SIGPIPE: only for a pipe that the shim writes.
    pub(crate) fn has_reader(&mut self) -> io::Result<bool> {
        self.0 = self.write_end()?;
        let has_reader = has_reader(&self.0);
        self.0 = reopen(&self.0, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(has_reader)
    }

    /// The descriptor, open for both.
    pub(crate) fn into_both_ends(self) -> OwnedFd {
        self.0
    }

    /// A writing end, with which the pipe keeps what is in it but does not count as being read.
    fn write_end(&self) -> io::Result<OwnedFd> {
        reopen(&self.0, OFlags::WRONLY | OFlags::NONBLOCK)
    }
}

/// Whether the pipe of this writing end is open for reading.
pub(crate) fn has_reader(writer: &OwnedFd) -> bool {
    // POLLERR is set on a pipe's writing end while nobody reads, see poll(2).
    let mut fds = [PollFd::new(writer, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = poll(&mut fds, Some(&now));
    polled.is_ok() && !fds[0].revents().contains(PollFlags::ERR)
}

/// Makes a user the owner of a pipe, who can then open `/proc/self/fd/1` again. Files and devices keep their owners,
/// as others use them too.
pub(crate) fn give_pipe(fd: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    if FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Fifo {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

/// The name under which an open file can be opened again, whatever became of its path.
fn own_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens an open file again, whatever became of its path.
pub(crate) fn reopen(fd: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    open(own_path(fd), flags)
}

/// Opens a path. A terminal there must not become the shim's controlling one.
fn open(path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path.as_ref(), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

fn is_pipe(path: impl AsRef<Path>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(stat(path.as_ref())?.st_mode) == FileType::Fifo)
}

pub(crate) fn failed(path: &str) -> impl FnOnce(io::Error) -> LaunchError {
    move |error| LaunchError::Stdio { path: path.to_owned(), errno: crate::launch::errno(&error) }
}
