//! Where files are, of each snapshotter.
//!
//! ```text
//! snapshots/overlayfs/snapshots/<n>/fs     what was changed: the upper directory of an overlay
//! snapshots/overlayfs/snapshots/<n>/work   what the kernel needs beside it, unless it is a view
//! snapshots/overlayfs/snapshots/<n>/mapped there if its mounts map ids
//! snapshots/native/snapshots/<n>           all files
//! snapshots/<snapshotter>/trash/           what is to be removed
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::{SnapshotError, copy, snapshotter::Flavour};

/// Name of the directory of all snapshots, in the root of the server.
pub const DIR: &str = "snapshots";

/// Names of files of a snapshotter. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    flavour: Flavour,
}

impl Layout {
    pub(crate) fn new(root: &Path, flavour: Flavour) -> Self {
        Self { root: root.join(DIR).join(flavour.name()), flavour }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn all(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn of(&self, directory: u64) -> PathBuf {
        self.all().join(directory.to_string())
    }

    /// The files of a snapshot.
    pub(crate) fn files(&self, directory: u64) -> PathBuf {
        match self.flavour {
            Flavour::Overlayfs => self.of(directory).join("fs"),
            Flavour::Native => self.of(directory),
        }
    }

    pub(crate) fn work(&self, directory: u64) -> PathBuf {
        self.of(directory).join("work")
    }

    /// Whether mounts of a snapshot map ids. That is settled when it is made: whoever made it was told whether they do, and has
    /// given its files other owners if not.
    pub(crate) fn is_mapped(&self, directory: u64) -> Result<bool, SnapshotError> {
        let path = self.mapped(directory);
        path.try_exists().map_err(SnapshotError::io("look at", &path))
    }

    fn mapped(&self, directory: u64) -> PathBuf {
        self.of(directory).join("mapped")
    }

    /// Makes the directories of the snapshotter. Nobody else reads what is in them.
    pub(crate) fn make_all(&self) -> Result<(), SnapshotError> {
        for dir in [self.all(), self.trash()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(SnapshotError::io("make", &dir))?;
        }
        spread(&self.all());
        // Up to the server's own directory.
        self.root.ancestors().take(3).try_for_each(sync)
    }

    /// Makes the directory of a snapshot, on top of the nearest of its parents. `root` is the owner in an overlay, if
    /// that is not the parent's; `is_mapped` of one whose mounts map ids. It is on the disk then.
    pub(crate) fn make(
        &self,
        directory: u64,
        is_view: bool,
        below: Option<u64>,
        root: Option<(u32, u32)>,
        is_mapped: bool,
    ) -> Result<(), SnapshotError> {
        let (outer, files) = (self.of(directory), self.files(directory));
        match self.flavour {
            Flavour::Overlayfs => {
                make(&outer, 0o700)?;
                make(&files, 0o755)?;
                if !is_view {
                    make(&self.work(directory), 0o711)?;
                }
                if let Some(below) = below {
                    look_like(&files, &self.files(below))?;
                }
                if let Some((uid, gid)) = root {
                    let owned = chown(&files, Some(uid), Some(gid));
                    owned.map_err(SnapshotError::io("set the owner of", &files))?;
                }
                if is_mapped {
                    let mapped = self.mapped(directory);
                    File::create_new(&mapped).map_err(SnapshotError::io("make", &mapped))?;
                }
                sync(&files)?;
                sync(&outer)?;
            }
            Flavour::Native => {
                make(&files, 0o755)?;
                match below.filter(|_| !is_view) {
                    Some(below) => {
                        copy::tree(&self.files(below), &files)?;
                        sync_file_system(&files)?;
                    }
                    None => sync(&files)?,
                }
            }
        }
        sync(&self.all())
    }

    /// Moves the directory of a snapshot to the trash. One that is not there is no error.
    pub(crate) fn set_aside(&self, directory: u64) -> Result<(), SnapshotError> {
        let (from, to) = (self.of(directory), self.trash().join(directory.to_string()));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SnapshotError::io("move to the trash", &from)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Has the file system spread what is in a directory over the disk, where it knows how to: ext4 (see chattr(1), "T"). Otherwise
/// it prefers the place with the most room for a new snapshot, which is where one was just removed, and without a journal it
/// passes over inodes that were freed in the last seconds one by one: many times the time of unpacking a layer. Nothing else
/// depends on it.
fn spread(dir: &Path) {
    let spread = File::open(dir).and_then(|dir| {
        let flags = ioctl_getflags(&dir)?;
        Ok(ioctl_setflags(&dir, flags | IFlags::TOPDIR)?)
    });
    if let Err(error) = spread {
        tracing::debug!(path = %dir.display(), %error, "snapshots are not spread over the disk");
    }
}

/// Makes a directory, whatever the process's umask.
fn make(dir: &Path, mode: u32) -> Result<(), SnapshotError> {
    DirBuilder::new().mode(mode).create(dir).map_err(SnapshotError::io("make", dir))?;
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(dir, mode).map_err(SnapshotError::io("set the mode of", dir))
}

/// Gives a directory the owner and the mode of another one: the top of an overlay is that of its upper directory.
fn look_like(dir: &Path, other: &Path) -> Result<(), SnapshotError> {
    let other = fs::metadata(other).map_err(SnapshotError::io("look at", other))?;
    let owned = chown(dir, Some(other.uid()), Some(other.gid()));
    owned.map_err(SnapshotError::io("set the owner of", dir))?;
    let mode = fs::Permissions::from_mode(other.mode() & 0o7777);
    fs::set_permissions(dir, mode).map_err(SnapshotError::io("set the mode of", dir))
}

fn sync(dir: &Path) -> Result<(), SnapshotError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SnapshotError::io("sync", dir))
}

/// Writes all that is not on the disk yet, of the file system that this is on: one by one, thousands of files
/// would take longer.
pub(crate) fn sync_file_system(dir: &Path) -> Result<(), SnapshotError> {
    let synced = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    synced.map_err(SnapshotError::io("sync the file system of", dir))
}
