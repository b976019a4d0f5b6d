//! Bundles that the server makes, of tasks whose caller gives a spec instead of a bundle.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use gantry_disk::MayWait;
use gantry_kernel::if_there;

use super::{StateError, error::failed, trash::Trash};

/// Under the state directory, with the name that containerd gives it: hooks look for it.
pub(super) const BUNDLES: &str = "io.containerd.runtime.v2.task";
const CONFIG_FILE: &str = "config.json";
const ROOTFS: &str = "rootfs";

/// The bundle of one task.
#[derive(Debug, Clone)]
pub(crate) struct TaskBundle {
    pub(super) path: PathBuf,
    /// An image that the server has made for the task.
    pub(super) image: Option<PathBuf>,
    pub(super) trash: Trash,
}

impl TaskBundle {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The image that goes with it.
    pub(crate) fn image(&self) -> Option<&Path> {
        self.image.as_deref()
    }

    /// What the task's mounts are mounted on.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join(ROOTFS)
    }

    /// Whether an earlier task has left it, or its path cannot be examined.
    pub(crate) fn is_there(&self, _: &MayWait) -> bool {
        !matches!(if_there(fs::symlink_metadata(&self.path)), Ok(None))
    }

    /// Makes the directory, which must not exist.
    pub(crate) fn create(&self, config: &[u8], _: &MayWait) -> Result<(), StateError> {
        // Root of a user namespace may have to pass through.
        let mut dirs = fs::DirBuilder::new();
        let rootfs = self.rootfs();
        dirs.recursive(true)
            .mode(0o711)
            .create(&rootfs)
            .map_err(failed("create directory", &rootfs))?;
        let path = self.path.join(CONFIG_FILE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(config)).map_err(failed("write", &path))
    }

    /// Removes the directory. It may be gone already.
    ///
    /// # Errors
    /// If something is mounted on its `rootfs`: the files of that mount would be removed, too.
    pub(crate) fn remove(&self, _: &MayWait) -> Result<(), StateError> {
        let rootfs = self.rootfs();
        match fs::remove_dir(&rootfs) {
            // Hooks and runtimes write where nothing is mounted.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => drop(if_there(other).map_err(failed("remove", &rootfs))?),
        }
        self.trash.take(&self.path)
    }
}
