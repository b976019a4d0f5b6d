//! What can go wrong with a cgroup.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::Trouble;

/// An operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CgroupError {
    /// The kernel refused.
    #[error("cannot {operation} {}: {cause}", path.display())]
    Io { operation: &'static str, path: PathBuf, cause: io::Error },

    /// A file of the kernel reads unlike its documentation.
    #[error("{} has unexpected contents: {line:?}", path.display())]
    Malformed { path: PathBuf, line: String },

    /// The process has ended; of a zombie, the kernel does not show the cgroup.
    #[error("process {pid} has ended")]
    Gone { pid: u32 },

    /// The process is in the server's cgroup, or in a hierarchy that is not mounted here.
    #[error("process {pid} has no cgroup of its own")]
    Shared { pid: u32 },

    /// The cgroup does not exist, or no longer.
    #[error("the cgroup is gone")]
    Removed,

    /// The server itself, or the host's first process, is in it: it cannot be a container's.
    #[error("{} holds process {pid}, so it is not a container's", path.display())]
    NotAContainer { path: PathBuf, pid: u32 },

    /// The cgroup has no files of this controller.
    #[error("the cgroup has no {0} controller")]
    NoController(&'static str),

    /// Its processes did not end in time.
    #[error("{} still holds the processes {pids:?}", path.display())]
    StillPopulated { path: PathBuf, pids: Vec<u32> },

    /// A cgroup around the container's is frozen. It is not the container's, and stays as it is.
    #[error("{} is frozen, which contains the container's cgroup and is not the container's", path.display())]
    FrozenAround { path: PathBuf },

    /// More nested cgroups than the limit.
    #[error("{} has more than {limit} nested cgroups", path.display())]
    TooManyNested { path: PathBuf, limit: usize },
}

impl CgroupError {
    pub(super) fn io(operation: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), cause }
    }

    /// A file of the kernel has a line that cannot be understood.
    pub fn malformed(path: &Path, line: &str) -> Self {
        Self::Malformed { path: path.to_owned(), line: line.to_owned() }
    }

    /// Descriptors or memory have run out: later it can succeed.
    pub fn is_scarce(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if Trouble::of(cause) == Trouble::Scarce)
    }

    /// The file is not there: removed before it was opened (ENOENT) or after (ENODEV), or a file of a
    /// process that has ended since it was opened (ESRCH).
    pub(super) fn is_absent(&self) -> bool {
        let Self::Io { cause, .. } = self else { return false };
        matches!(
            cause.raw_os_error().map(Errno::from_raw),
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR | Errno::ESRCH)
        )
    }
}

/// Makes a missing file a value.
pub(super) fn present<T>(result: Result<T, CgroupError>) -> Result<Option<T>, CgroupError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A kill reads such files after the signal: the process can have ended between open and read.
    #[test]
    fn a_file_of_a_process_that_has_ended_is_absent() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let path = PathBuf::from(format!("/proc/{}/cgroup", child.id()));
        let mut file = std::fs::File::open(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let error = file.read_to_string(&mut String::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ESRCH));
        assert!(CgroupError::io("read", &path, error).is_absent());
    }
}
