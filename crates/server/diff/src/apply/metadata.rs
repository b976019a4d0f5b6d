//! Owners, modes, extended attributes and times. The owner comes first, as a change of that takes bits of the mode
//! and capabilities away.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
        fchown, fsetxattr, fstat, futimens, getxattr, listxattr, lsetxattr, setxattr, utimensat,
    },
    io::Errno,
};

use super::tree::path_in;
use crate::archive::{Entry, EntryKind, Time};

/// How attributes begin that are no layer's own: those that only administrators may have, and the notes of overlays.
const FOREIGN: [&[u8]; 2] = [b"trusted.", b"user.overlay."];

fn is_foreign(attribute: &[u8]) -> bool {
    FOREIGN.iter().any(|begin| attribute.starts_with(begin))
}

/// Of an open file.
pub(super) fn of_file(file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
    fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    fchmod(file, Mode::from_raw_mode(entry.mode))?;
    set_xattrs(entry, |name, value| fsetxattr(file, name, value, XattrFlags::empty()))?;
    futimens(file, &timestamps(entry.atime, entry.mtime))
}

/// Of what has this name in a directory. A link has no mode.
pub(super) fn of_name(directory: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if entry.kind != EntryKind::Symlink {
        chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    if !entry.xattrs.is_empty() {
        let path = path_in(directory, name);
        set_xattrs(entry, |name, value| lsetxattr(&*path, name, value, XattrFlags::empty()))?;
    }
    set_times(directory, name, entry.atime, entry.mtime)
}

pub(super) fn set_times(
    directory: &OwnedFd,
    name: &[u8],
    atime: Time,
    mtime: Time,
) -> Result<(), Errno> {
    utimensat(directory, name, &timestamps(atime, mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// An attribute that the file system does not know is left out.
fn set_xattrs(
    entry: &Entry,
    mut set: impl FnMut(&[u8], &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for (name, value) in &entry.xattrs {
        let result = match is_foreign(name) {
            true => Err(Errno::OPNOTSUPP),
            false => set(name, value),
        };
        match result {
            Err(Errno::OPNOTSUPP) => tracing::debug!(
                entry = crate::error::shown(&entry.name),
                attribute = crate::error::shown(name),
                "an extended attribute of a layer is ignored"
            ),
            other => other?,
        }
    }
    Ok(())
}

/// A file is not read before it was changed. What is before 1970 counts as 1970, as in containerd.
fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let of = |time: Time| match time.seconds {
        ..0 => Timespec { tv_sec: 0, tv_nsec: 0 },
        seconds => Timespec { tv_sec: seconds, tv_nsec: time.nanoseconds.into() },
    };
    Timestamps { last_access: of(atime.max(mtime)), last_modification: of(mtime) }
}

/// Makes a directory look like one of a layer below, unless that is none.
pub(super) fn copy_directory(
    model: &OwnedFd,
    directory: &OwnedFd,
    name: &[u8],
) -> Result<(), Errno> {
    let stat = fstat(model.as_fd())?;
    let mode = match super::tree::kind(&stat) {
        rustix::fs::FileType::Directory => stat.st_mode & 0o7777,
        _ => return chmodat(directory, name, Mode::from_raw_mode(0o755), AtFlags::empty()),
    };
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    let from = format!("/proc/thread-self/fd/{}", model.as_raw_fd());
    let to = path_in(directory, name);
    let names: Vec<u8> = list(&from)?;
    for attribute in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if is_foreign(attribute) {
            continue;
        }
        let mut value = Vec::with_capacity(64 << 10);
        getxattr(&*from, attribute, rustix::buffer::spare_capacity(&mut value))?;
        match setxattr(&*to, attribute, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn list(path: &str) -> Result<Vec<u8>, Errno> {
    let mut names = Vec::with_capacity(64 << 10);
    match listxattr(path, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) | Err(Errno::OPNOTSUPP) => Ok(names),
        Err(error) => Err(error),
    }
}
