//! A cgroup file that can be polled for changes.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{CgroupError, file::Reader};

/// `cgroup.events` or `memory.events` of v2. Polled for `POLLPRI` rather than watched with
/// inotify, which the kernel offers as well: of inotify a user has 128 instances by default, fewer
/// than containers.
#[derive(Debug)]
pub(super) struct EventFile {
    file: AsyncFd<File>,
    path: PathBuf,
}

impl EventFile {
    pub(super) fn open(path: &Path) -> Result<Self, CgroupError> {
        let file = File::open(path).map_err(|error| CgroupError::io("open", path, error))?;
        let file = register(file, Interest::PRIORITY)
            .map_err(|error| CgroupError::io("watch", path, error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The file as it is now. A change after this wakes [`Self::changed`].
    pub(super) fn read<'a>(&self, reader: &'a mut Reader) -> Result<&'a str, CgroupError> {
        reader.reread(self.file.get_ref(), &self.path)
    }

    /// Waits for a change since the last call; may also answer without one.
    pub(super) async fn changed(&self) -> Result<(), CgroupError> {
        let ready = self.file.ready(Interest::PRIORITY).await;
        ready.map_err(|error| CgroupError::io("watch", &self.path, error))?.clear_ready();
        Ok(())
    }
}

/// Has tokio look after a descriptor.
#[allow(deprecated, reason = "the sound variant is unsafe; our types keep their descriptor open")]
pub(super) fn register<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}
