//! Images of CRIU that the server keeps for callers who have them as content: while they become content, and until the task
//! that is made of one is over.
//!
//! Each is a directory in [`crate::Settings::images`], named by a generation. Who has made it removes it, unless a task has
//! taken it: then it goes with the task's bundle, or before, once the task is restored. What a server that was killed has
//! left goes when the next one has read which tasks there are.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gantry_disk::Disks;
use gantry_domain::Generation;
use gantry_kernel::if_there;
use gantry_runtime::checkpoint::CheckpointError;
use tokio::runtime::Handle;

use crate::{Services, Supervisor, SupervisorError, state_dir::ContainerRecord};

/// The directory of an image, which is removed when this is dropped, unless a task has taken it.
pub struct OwnImage {
    path: PathBuf,
    disks: Disks,
    is_taken: AtomicBool,
}

impl OwnImage {
    /// An absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory now.
    pub async fn remove(self) {
        self.take();
        remove_or_warn(self.disks.clone(), self.path.clone()).await;
    }

    /// It is removed by somebody else.
    pub(crate) fn take(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for OwnImage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("OwnImage").field(&self.path).finish()
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        if self.is_taken.load(Ordering::Relaxed) {
            return;
        }
        // Without a runtime the server ends, and the next one removes it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(remove_or_warn(self.disks.clone(), std::mem::take(&mut self.path)));
        }
    }
}

async fn remove_or_warn(disks: Disks, path: PathBuf) {
    let problem = match disks.run("remove", &path, remove).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), problem, "an image of a checkpoint is left until the next start");
}

/// It may be gone.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if_there(fs::remove_dir_all(path)).map(drop)
}

impl Supervisor {
    /// Makes an empty directory for an image, which only root can enter.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn new_image(&self) -> Result<OwnImage, SupervisorError> {
        let Services { settings, generations, disks, .. } = &*self.0.services;
        let path = settings.images.join(generations.next().0.to_string());
        let made = OwnImage { path, disks: disks.clone(), is_taken: AtomicBool::new(false) };
        let make = |path: &Path| {
            let mut dirs = fs::DirBuilder::new();
            let all = path.parent().map(|all| dirs.mode(0o700).recursive(true).create(all));
            let made = all.transpose().and_then(|_| dirs.recursive(false).create(path));
            let what = "create";
            made.map_err(|cause| CheckpointError::Io { what, path: path.to_owned(), cause })
        };
        // A directory that is made after the deadline is left until the next start.
        disks.run("create", made.path(), make).await??;
        Ok(made)
    }
}

impl Services {
    /// Removes what earlier servers have left, but for what tasks are to be restored from. Nobody waits for this.
    pub(crate) fn sweep_images(self: &Arc<Self>, used: BTreeSet<PathBuf>) {
        let (dir, before) = (self.settings.images.clone(), self.generations.next());
        let disks = self.disks.clone();
        tokio::spawn(async move {
            let list = move |dir: &Path| left_in(dir, before, &used);
            let left = match disks.run("list", &dir, list).await {
                Ok(Ok(left)) => left,
                Ok(Err(error)) => {
                    tracing::warn!(path = %dir.display(), %error, "images of checkpoints may be left");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "images of checkpoints may be left");
                    return;
                }
            };
            for path in left {
                remove_or_warn(disks.clone(), path).await;
            }
        });
    }

    /// Removes the image of a task that was restored, and does not need it any more.
    pub(crate) fn remove_used_image(&self, record: &ContainerRecord) {
        if let Some(image) = record.restore.as_ref().and_then(|restore| restore.own_image()) {
            tokio::spawn(remove_or_warn(self.disks.clone(), image.to_owned()));
        }
    }
}

/// Directories of images in `dir` that were made before this generation, and are not used.
fn left_in(dir: &Path, before: Generation, used: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = if_there(fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let mut left = Vec::new();
    for entry in entries {
        let entry = entry?;
        let made = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if made.is_some_and(|made| Generation(made) < before) && !used.contains(&entry.path()) {
            left.push(entry.path());
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> OwnImage {
        let path = dir.join("7");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("pages-1.img"), "").unwrap();
        OwnImage { path, disks: Disks::new().unwrap(), is_taken: AtomicBool::new(false) }
    }

    #[tokio::test]
    async fn an_image_goes_with_its_holder_unless_a_task_has_taken_it() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path()).remove().await;
        assert!(!dir.path().join("7").exists());
        let taken = image(dir.path());
        taken.take();
        drop(taken);
        tokio::task::yield_now().await;
        assert!(dir.path().join("7/pages-1.img").exists());
        remove(&dir.path().join("7")).unwrap();
        drop(image(dir.path()));
        // The removal is on another thread; the directory goes without anything else happening.
        while dir.path().join("7").exists() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn what_an_earlier_server_has_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1", "2", "9", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let used = [dir.path().join("2")].into();
        let left = left_in(dir.path(), Generation(9), &used).unwrap();
        assert_eq!(left, [dir.path().join("1")]);
        assert_eq!(left_in(&dir.path().join("none"), Generation(9), &used).unwrap().len(), 0);
    }
}
