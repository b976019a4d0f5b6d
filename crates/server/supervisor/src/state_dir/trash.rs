//! Removes directories so that they disappear whole.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gantry_disk::OwnFiles;
use gantry_kernel::{Backoff, Trouble, if_there};
use tokio::sync::Notify;

use super::{StateError, error::failed, file::list};

/// Where directories are moved before their content is removed.
#[derive(Debug, Clone)]
pub(super) struct Trash(Arc<TrashDir>);

#[derive(Debug)]
struct TrashDir {
    path: PathBuf,
    /// Makes names unique beside those of this server.
    count: AtomicU64,
    /// Directories that could not be moved here yet.
    outside: Mutex<Vec<PathBuf>>,
    /// Notified when something could not be removed.
    full: Notify,
}

impl Trash {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Arc::new(TrashDir {
            path,
            count: AtomicU64::new(0),
            outside: Mutex::default(),
            full: Notify::new(),
        }))
    }

    /// Removes a directory: for anyone who looks, at once. It may be gone already. What cannot be
    /// removed now is later, see [`Self::keep_empty`].
    pub(super) fn take(&self, path: &Path) -> Result<(), StateError> {
        let Some(there) = self.move_here(path)? else { return Ok(()) };
        if let Err(error) = remove(&there) {
            tracing::warn!(%error, "files are left in the trash; they are removed later");
            self.0.full.notify_one();
        }
        Ok(())
    }

    /// As [`Self::take`] for a directory with so many files that nobody may wait for their removal: that is
    /// left to [`Self::keep_empty`].
    pub(super) fn take_large(&self, path: &Path) -> Result<(), StateError> {
        if self.move_here(path)?.is_some() {
            self.0.full.notify_one();
        }
        Ok(())
    }

    /// Where the directory is then; `None` if it is gone already.
    fn move_here(&self, path: &Path) -> Result<Option<PathBuf>, StateError> {
        loop {
            let count = self.0.count.fetch_add(1, Ordering::Relaxed);
            let there = self.0.path.join(count.to_string());
            match fs::rename(path, &there) {
                // The trash could be missing instead.
                Err(error) if Trouble::of(&error) == Trouble::Gone && is_gone(path) => {
                    return Ok(None);
                }
                // Of an earlier server, which could not be removed.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                result => {
                    result.map_err(failed("remove", path))?;
                    return Ok(Some(there));
                }
            }
        }
    }

    /// Removes a directory whose name is not used again; if that cannot be now, then later, see
    /// [`Self::keep_empty`].
    pub(super) fn take_at_last(&self, path: &Path) -> Result<(), StateError> {
        self.take(path).inspect_err(|_| {
            self.outside().push(path.to_owned());
            self.0.full.notify_one();
        })
    }

    /// Removes the directories that are in another one now, but not the other one itself. Those that
    /// cannot be removed now are later, see [`Self::keep_empty`].
    pub(super) fn take_all_in(&self, parent: &Path) -> Result<(), StateError> {
        let found = list(parent)?.into_iter().map(|name| parent.join(name));
        self.outside().extend(found);
        self.take_outside().inspect_err(|_| self.0.full.notify_one())
    }

    fn take_outside(&self) -> Result<(), StateError> {
        let mut taken = Ok(());
        let outside = mem::take(&mut *self.outside());
        for path in outside {
            if let Err(error) = self.take(&path) {
                self.outside().push(path);
                taken = Err(error);
            }
        }
        taken
    }

    /// Not to be held while a disk is waited for.
    fn outside(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what an earlier server, or an earlier attempt, could not.
    pub(super) fn sweep(&self) -> Result<(), StateError> {
        let mut swept = self.take_outside();
        for name in list(&self.0.path)? {
            swept = swept.and(remove(&self.0.path.join(name)));
        }
        swept.inspect_err(|_| self.0.full.notify_one())
    }

    /// Empties it whenever something could not be removed at once.
    pub(super) async fn keep_empty(&self, files: &OwnFiles) {
        loop {
            self.0.full.notified().await;
            let mut backoff = Backoff::default();
            let sweep = || {
                let trash = self.clone();
                files.run(move |_| trash.sweep())
            };
            while let Err(error) = sweep().await {
                tracing::debug!(%error, "the trash cannot be emptied yet");
                backoff.pause().await;
            }
        }
    }
}

fn is_gone(path: &Path) -> bool {
    matches!(if_there(fs::symlink_metadata(path)), Ok(None))
}

/// Somebody else may be removing it too.
fn remove(path: &Path) -> Result<(), StateError> {
    if_there(fs::remove_dir_all(path)).map(drop).map_err(failed("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_moved_now_is_moved_later_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::new(root.path().join("trash"));
        let new = root.path().join("new");
        fs::create_dir_all(new.join("0/below")).unwrap();
        // The trash itself is missing: nothing can be moved there.
        assert!(trash.take(&new).is_err());
        assert!(trash.take_all_in(&new).is_err());
        fs::create_dir(new.join("1")).unwrap();
        fs::create_dir(root.path().join("trash")).unwrap();
        trash.sweep().unwrap();
        assert!(!new.join("0").exists());
        assert!(new.join("1").exists());
        assert!(list(&root.path().join("trash")).unwrap().is_empty());
    }

    #[test]
    fn what_was_set_aside_is_removed_at_last() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::new(root.path().join("trash"));
        let aside = root.path().join("1");
        fs::create_dir(&aside).unwrap();
        assert!(trash.take_at_last(&aside).is_err());
        fs::create_dir(root.path().join("trash")).unwrap();
        trash.sweep().unwrap();
        assert!(!aside.exists());
    }
}
