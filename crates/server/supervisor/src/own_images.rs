//! Images of CRIU that the server keeps for callers who have them as content: while they become content, and until the task
//! that is made of one is over.
//!
//! ```text
//! <images>/<n>           in use
//! <images>/<n>.removed   is being removed, in the background: it can have many gigabytes
//! <images>/<n>.kept      of a task that has ended with its checkpoint, until that is content
//! ```
//! Who has made it removes it, unless a task has taken it: then it goes with the task's bundle, or before, once the task is
//! restored. What a server that was killed has left goes when the next one has read which tasks there are, but for what is kept:
//! nothing else is left of such a task.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gantry_disk::OwnFiles;
use gantry_kernel::if_there;
use gantry_runtime::checkpoint::CheckpointError;
use tokio::runtime::Handle;

use crate::{Services, Supervisor, SupervisorError, state_dir::ContainerRecord};

const REMOVED: &str = "removed";
const KEPT: &str = "kept";

/// Where they are. Clones are the same.
#[derive(Clone)]
pub(crate) struct OwnImages(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    /// These may take as long as there are files.
    files: OwnFiles,
    /// Those that this server has made, as they were named then.
    made: Mutex<BTreeSet<PathBuf>>,
    /// One at a time, which leaves threads for others.
    removing: tokio::sync::Mutex<()>,
}

impl OwnImages {
    /// # Errors
    /// If there is no thread.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        let (files, made, removing) = (OwnFiles::new()?, Mutex::default(), Default::default());
        Ok(Self(Arc::new(Shared { dir, files, made, removing })))
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // The set is whole after any panic: each change to it is a single call.
        self.0.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an image aside, and has it removed in the background. It may be gone.
    pub(crate) async fn remove(&self, path: PathBuf) -> io::Result<()> {
        let aside = path.with_extension(REMOVED);
        let (from, to) = (path.clone(), aside.clone());
        self.0.files.run(move |_| if_there(fs::rename(from, to))).await?;
        self.made().remove(&path.with_extension(""));
        let images = self.clone();
        tokio::spawn(async move { images.remove_files(aside).await });
        Ok(())
    }

    async fn remove_or_warn(&self, path: PathBuf) {
        if let Err(error) = self.remove(path.clone()).await {
            warn_of_left(&path, &error);
        }
    }

    async fn remove_files(&self, aside: PathBuf) {
        let _one_at_a_time = self.0.removing.lock().await;
        let path = aside.clone();
        let removed = self.0.files.run(move |_| if_there(fs::remove_dir_all(path))).await;
        if let Err(error) = removed {
            warn_of_left(&aside, &error);
        }
    }

    /// Directories of earlier servers that are not used, or are set aside.
    fn left(&self, used: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
        let Some(entries) = if_there(fs::read_dir(&self.0.dir))? else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if stem.is_none_or(|stem| stem.parse::<u64>().is_err()) {
                continue;
            }
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(KEPT) if !self.made().contains(&path.with_extension("")) => {
                    let path = path.display();
                    tracing::warn!(%path, "this image is all that is left of a task: its checkpoint did not become content");
                }
                Some(REMOVED) => left.push(path),
                None if !used.contains(&path) && !self.made().contains(&path) => left.push(path),
                _ => {}
            }
        }
        Ok(left)
    }
}

fn warn_of_left(path: &Path, error: &io::Error) {
    let path = path.display();
    tracing::warn!(%path, %error, "an image of a checkpoint is left until the next start");
}

/// The directory of an image, which is removed when this is dropped, unless a task has taken it, or it is kept.
pub struct OwnImage {
    path: PathBuf,
    images: OwnImages,
    stays: AtomicBool,
}

impl OwnImage {
    /// An absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory. Its files go in the background.
    pub async fn remove(self) {
        self.take();
        self.images.remove_or_warn(self.path.clone()).await;
    }

    /// It stays until it is removed, also if the server ends before: another path is for that.
    pub async fn keep(&mut self) {
        self.take();
        let kept = self.path.with_extension(KEPT);
        let (from, to) = (self.path.clone(), kept.clone());
        match self.images.0.files.run(move |_| fs::rename(from, to)).await {
            Ok(()) => self.path = kept,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "the next start removes the image of a task that has ended");
            }
        }
    }

    /// It is removed by somebody else.
    pub(crate) fn take(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for OwnImage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("OwnImage").field(&self.path).finish()
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed) {
            return;
        }
        // Without a runtime the server ends, and the next one removes it.
        if let Ok(runtime) = Handle::try_current() {
            let (images, path) = (self.images.clone(), std::mem::take(&mut self.path));
            runtime.spawn(async move { images.remove_or_warn(path).await });
        }
    }
}

impl Supervisor {
    /// Makes an empty directory for an image, which only root can enter.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn new_image(&self) -> Result<OwnImage, SupervisorError> {
        let Services { images, generations, .. } = &*self.0.services;
        let path = images.0.dir.join(generations.next().0.to_string());
        images.made().insert(path.clone());
        // Dropped with it if this fails, or the caller goes away.
        let made = OwnImage { path, images: images.clone(), stays: AtomicBool::new(false) };
        let path = made.path.clone();
        let make = move |_: &_| {
            let mut dirs = fs::DirBuilder::new();
            let all = path.parent().map(|all| dirs.mode(0o700).recursive(true).create(all));
            let made = all.transpose().and_then(|_| dirs.recursive(false).create(&path));
            let what = "create";
            made.map_err(|cause| CheckpointError::Io { what, path, cause })
        };
        images.0.files.run(make).await?;
        Ok(made)
    }
}

impl Services {
    /// Removes what earlier servers have left, but for what tasks are to be restored from. Nobody waits for this.
    pub(crate) fn sweep_images(&self, used: BTreeSet<PathBuf>) {
        let images = self.images.clone();
        tokio::spawn(async move {
            let listing = images.clone();
            match images.0.files.run(move |_| listing.left(&used)).await {
                Ok(left) => {
                    for path in left {
                        images.remove_or_warn(path).await;
                    }
                }
                Err(error) => warn_of_left(&images.0.dir, &error),
            }
        });
    }

    /// Removes the image of a task that was restored, and does not need it any more.
    pub(crate) fn remove_used_image(&self, record: &ContainerRecord) {
        if let Some(image) = record.restore.as_ref().and_then(|restore| restore.own_image()) {
            let (images, image) = (self.images.clone(), image.to_owned());
            tokio::spawn(async move { images.remove_or_warn(image).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> OwnImage {
        let path = dir.join("7");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("pages-1.img"), "").unwrap();
        let images = OwnImages::new(dir.to_owned()).unwrap();
        OwnImage { path, images, stays: AtomicBool::new(false) }
    }

    /// The removal is on another thread; the directories go without anything else happening.
    async fn until_empty(dir: &Path) {
        while fs::read_dir(dir).unwrap().next().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_image_goes_with_its_holder_unless_a_task_has_taken_it() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path()).remove().await;
        assert!(!dir.path().join("7").exists());
        until_empty(dir.path()).await;
        let taken = image(dir.path());
        taken.take();
        let images = taken.images.clone();
        drop(taken);
        tokio::task::yield_now().await;
        assert!(dir.path().join("7/pages-1.img").exists());
        images.remove(dir.path().join("7")).await.unwrap();
        images.remove(dir.path().join("7")).await.unwrap();
        until_empty(dir.path()).await;
        drop(image(dir.path()));
        until_empty(dir.path()).await;
    }

    #[tokio::test]
    async fn what_is_kept_has_a_path_of_its_own_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = image(dir.path());
        kept.keep().await;
        assert_eq!(kept.path(), dir.path().join("7.kept"));
        assert!(kept.path().join("pages-1.img").exists());
        assert!(kept.images.left(&BTreeSet::new()).unwrap().is_empty());
        kept.remove().await;
        until_empty(dir.path()).await;
    }

    #[test]
    fn what_an_earlier_server_has_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["1", "2", "3.removed", "4.kept", "9", "other", "other.removed"] {
            fs::create_dir(path(name)).unwrap();
        }
        let images = OwnImages::new(dir.path().to_owned()).unwrap();
        // Whatever the clocks were.
        images.made().insert(path("1"));
        let mut left = images.left(&[path("2")].into()).unwrap();
        left.sort();
        assert_eq!(left, [path("3.removed"), path("9")]);
        let none = OwnImages::new(path("none")).unwrap();
        assert!(none.left(&BTreeSet::new()).unwrap().is_empty());
    }
}
