//! The file of the database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use redb::StorageBackend;

/// A file that one server has to itself. Room is allocated when the file grows, before anything is
/// written there: a full disk is detected before a change has begun, not in the middle of it.
#[derive(Debug)]
pub(crate) struct Backing(File);

impl Backing {
    /// Makes the file. Specs can hold secrets, in their environment: nobody else may read it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600), path)
    }

    /// Opens the file. `WouldBlock` if another server has it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true).write(true), path)
    }

    fn with(options: &mut OpenOptions, path: &Path) -> io::Result<Self> {
        let file =
            options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let range = (i64::try_from(from), i64::try_from(to - from));
        let (Ok(from), Ok(length)) = range else { return Err(io::ErrorKind::FileTooLarge.into()) };
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), from, length) {
                Err(Errno::EINTR) => {}
                // Such a file system allocates when it writes.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return self.0.set_len(to),
                result => return result.map_err(io::Error::from),
            }
        }
    }
}

impl StorageBackend for Backing {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if len <= now {
            return self.0.set_len(len);
        }
        let allocated = self.allocate(now, len);
        if allocated.is_err() {
            // What it did allocate.
            let _ = self.0.set_len(now);
        }
        allocated
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn close(&self) -> io::Result<()> {
        // A child that is just being started may have the file, too, until it runs its program.
        self.0.unlock()
    }
}
