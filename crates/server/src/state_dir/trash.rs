//! Directories that go whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{StateError, error::failed, file::list};

/// Where directories are moved before their content is removed.
#[derive(Debug, Clone)]
pub(super) struct Trash(Arc<TrashDir>);

#[derive(Debug)]
struct TrashDir {
    path: PathBuf,
    /// Makes names unique; the directory is empty when a server starts.
    count: AtomicU64,
}

impl Trash {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Arc::new(TrashDir { path, count: AtomicU64::new(0) }))
    }

    /// Removes a directory: for anyone who looks, at once. It may be gone already.
    pub(super) fn take(&self, path: &Path) -> Result<(), StateError> {
        let count = self.0.count.fetch_add(1, Ordering::Relaxed);
        let there = self.0.path.join(count.to_string());
        match fs::rename(path, &there) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(failed("remove", path))?,
        }
        fs::remove_dir_all(&there).map_err(failed("remove", &there))
    }

    /// Removes what an earlier server had no time to.
    pub(super) fn sweep(&self) -> Result<(), StateError> {
        for name in list(&self.0.path)? {
            let path = self.0.path.join(name);
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}
