//! Whether a file is the same in both trees, by what containerd compares: mode, owner, device, capabilities; and of what is no
//! directory size and time of change. Times without nanoseconds may have been cut off: then the content is compared.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, lgetxattr, openat, readlinkat},
    io::{Errno, pread},
};

use crate::{
    Cancel, DiffError,
    apply::{kind, path_in},
};

/// How much of two files is compared at a time.
const CHUNK: usize = 64 << 10;

/// A file in a tree.
pub(super) struct Found<'a> {
    pub(super) parent: &'a OwnedFd,
    pub(super) stat: Stat,
}

pub(super) fn same(
    path: &[u8],
    name: &[u8],
    left: &Found<'_>,
    right: &Found<'_>,
    cancel: &Cancel,
) -> Result<bool, DiffError> {
    let (old, new) = (&left.stat, &right.stat);
    if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
        return Ok(true);
    }
    let known = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if known(old) != known(new) {
        return Ok(false);
    }
    let failed = || DiffError::io("compare", path);
    if kind(new) == FileType::RegularFile
        && capability(left.parent, name).map_err(failed())?
            != capability(right.parent, name).map_err(failed())?
    {
        return Ok(false);
    }
    if kind(new) == FileType::Directory {
        return Ok(true);
    }
    let times = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if times(old) != times(new) {
        return Ok(false);
    }
    if new.st_mtime_nsec != 0 {
        return Ok(true);
    }
    match kind(new) {
        FileType::Symlink => {
            let target = |found: &Found<'_>| readlinkat(found.parent, name, Vec::new());
            Ok(target(left).map_err(failed())? == target(right).map_err(failed())?)
        }
        FileType::RegularFile if new.st_size > 0 => {
            let old = open_file(left.parent, name).map_err(failed())?;
            let new = open_file(right.parent, name).map_err(failed())?;
            same_content(path, &old, &new, cancel)
        }
        _ => Ok(true),
    }
}

fn same_content(
    path: &[u8],
    old: &OwnedFd,
    new: &OwnedFd,
    cancel: &Cancel,
) -> Result<bool, DiffError> {
    let (mut left, mut right, mut at) = (vec![0; CHUNK], vec![0; CHUNK], 0);
    loop {
        cancel.check()?;
        let count = whole(old, &mut left, at).map_err(DiffError::io("compare", path))?;
        let other = whole(new, &mut right, at).map_err(DiffError::io("compare", path))?;
        if count != other || left[..count] != right[..count] {
            return Ok(false);
        }
        if count < CHUNK {
            return Ok(true);
        }
        at += count as u64;
    }
}

/// Reads until the buffer is full, or the file at its end.
fn whole(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match pread(file, &mut buffer[length..], at + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Opens what was found to be a regular file, and may have been replaced by anything.
pub(super) fn open_file(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty())?;
    if kind(&fstat(&file)?) != FileType::RegularFile {
        return Err(Errno::AGAIN);
    }
    Ok(file)
}

/// The file's capabilities, as its attribute has them.
pub(super) fn capability(parent: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    attribute(parent, name, "security.capability")
}

/// The value of an attribute, if there is one.
pub(super) fn attribute(
    parent: &OwnedFd,
    name: &[u8],
    attribute: &str,
) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = Vec::with_capacity(256);
    let path = path_in(parent, name);
    loop {
        match lgetxattr(&*path, attribute, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            // No attribute is longer.
            Err(Errno::RANGE) if value.capacity() < 64 << 10 => value.reserve(64 << 10),
            Err(error) => return Err(error),
        }
    }
}
