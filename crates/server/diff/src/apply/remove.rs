//! Removes what a layer replaces or deletes.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

use super::tree::{kind, look};
use crate::Cancel;

const READ: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what has this name, with all that is below; says whether there was something.
pub(super) fn remove(directory: &OwnedFd, name: &[u8], cancel: &Cancel) -> Result<bool, Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => match look(directory, name)? {
            Some(stat) if kind(&stat) == FileType::Directory => {}
            _ => return Err(error),
        },
    }
    let below = openat(directory, name, READ, Mode::empty())?;
    for entry in names(&below)? {
        if cancel.is_cancelled() {
            return Err(Errno::CANCELED);
        }
        remove(&below, &entry, cancel)?;
    }
    drop(below);
    unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// The names in a directory.
pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

/// Opens a directory to read its names.
pub(super) fn open_directory(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(directory, name, READ, Mode::empty())
}
