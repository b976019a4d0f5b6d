//! The pipes of a process whose streams the server holds: FIFOs in the process's directory.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
};

use gantry_disk::MayWait;
use gantry_domain::Stdio;
use nix::{
    errno::Errno,
    libc::{ENXIO, O_NONBLOCK},
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::{ProcessDir, StateError, error::failed};
use crate::attach::Ends;

pub(crate) const STDIN: &str = "stdin";
pub(crate) const STDOUT: &str = "stdout";
pub(crate) const STDERR: &str = "stderr";

impl ProcessDir {
    /// Makes the pipes that the server is to hold. Those of an earlier attempt to start the process are used again.
    pub(crate) fn make_pipes(&self, stdio: &Stdio, _: &MayWait) -> Result<(), StateError> {
        let streams = [(&stdio.stdin, STDIN), (&stdio.stdout, STDOUT), (&stdio.stderr, STDERR)];
        for (stream, name) in streams {
            if !Stdio::is_held(stream.as_deref()) {
                continue;
            }
            let path = self.path.join(name);
            match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed("make the pipe", &path)(error.into())),
            }
        }
        Ok(())
    }

    /// Opens the server's ends of them. The other ends are open already.
    pub(crate) fn open_pipes(
        &self,
        stdio: &Stdio,
        terminal: bool,
        _: &MayWait,
    ) -> io::Result<Ends> {
        let path = |stream: &Option<PathBuf>, name| {
            Stdio::is_held(stream.as_deref()).then(|| self.path.join(name))
        };
        let open = |path: PathBuf, write: bool| -> io::Result<OwnedFd> {
            let mut options = File::options();
            let file = options.read(!write).write(write).custom_flags(O_NONBLOCK).open(path)?;
            Ok(file.into())
        };
        let stdin = match path(&stdio.stdin, STDIN).map(|path| open(path, true)).transpose() {
            // Its shim has ended: nobody reads it any more.
            Err(error) if error.raw_os_error() == Some(ENXIO) => None,
            opened => opened?,
        };
        let output = |stream, name| path(stream, name).map(|path| open(path, false)).transpose();
        let stdout = output(&stdio.stdout, STDOUT)?;
        // A terminal has one output.
        let stderr = if terminal { None } else { output(&stdio.stderr, STDERR)? };
        Ok(Ends { stdin, stdout, stderr })
    }
}
