//! Directories by descriptor: containers own what is in them, and may change it meanwhile.

use std::{ffi::CStr, path::Path};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat, open, openat, openat2, statat},
    io::Errno,
};

use crate::SnapshotError;

/// How many directories may lie in each other. Each takes a descriptor while it is read.
pub(crate) const MAX_DEPTH: usize = 1000;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory with which a walk begins.
pub(crate) fn top(path: &Path) -> Result<OwnedFd, SnapshotError> {
    open(path, DIRECTORY, Mode::empty()).map_err(SnapshotError::io("open", path))
}

/// Opens a directory, unless something is mounted there.
pub(crate) fn enter(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let beneath = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(&parent, name, DIRECTORY, Mode::empty(), beneath) {
        // Of a kernel before 5.6, or a filter of system calls that is older than that.
        Err(Errno::NOSYS | Errno::PERM) => openat(&parent, name, DIRECTORY, Mode::empty()),
        opened => opened,
    }
}

/// What is there now, and not what a link leads to.
pub(crate) fn look(parent: impl AsFd, name: &CStr) -> Result<Stat, Errno> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The next name in a directory, but not `.` and `..`.
pub(crate) fn next(dir: &mut Dir) -> Result<Option<rustix::fs::DirEntry>, Errno> {
    loop {
        match dir.read().transpose()? {
            Some(entry) if [c".", c".."].contains(&entry.file_name()) => {}
            entry => return Ok(entry),
        }
    }
}
