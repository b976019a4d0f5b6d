//! Removes what a layer replaces or deletes.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat},
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
    empty(open_directory(directory, name)?, None, cancel)?;
    unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// Whether a name stays in the directory that has this inode.
pub(super) type Stays<'a> = &'a dyn Fn(u64, &[u8]) -> bool;

/// A directory that is being emptied.
struct Level {
    /// Device and inode.
    id: (u64, u64),
    /// Its name in the directory above.
    name: Vec<u8>,
    /// It is not removed itself, and some of its names may stay.
    stays: bool,
    /// Names in it that were not looked at yet.
    left: Vec<Vec<u8>>,
}

impl Level {
    fn of(directory: &OwnedFd, name: Vec<u8>, stays: bool) -> Result<Self, Errno> {
        Ok(Self { id: id(directory)?, name, stays, left: names(directory)? })
    }
}

/// Empties a directory, but for names that stay. There may be any number of directories in each other: none but
/// the innermost is open, and ".." leads back.
pub(super) fn empty(top: OwnedFd, stays: Option<Stays<'_>>, cancel: &Cancel) -> Result<(), Errno> {
    let mut here = top;
    let mut levels = vec![Level::of(&here, Vec::new(), stays.is_some())?];
    while let Some(level) = levels.last_mut() {
        if cancel.is_cancelled() {
            return Err(Errno::CANCELED);
        }
        let Some(name) = level.left.pop() else {
            let Some(done) = levels.pop() else { break };
            let Some(above) = levels.last() else { break };
            let parent = open_directory(&here, b"..")?;
            if id(&parent)? != above.id {
                // Somebody has moved it meanwhile.
                return Err(Errno::STALE);
            }
            here = parent;
            if !done.stays {
                unlinkat(&here, &*done.name, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let stays = level.stays && stays.is_some_and(|stays| stays(level.id.1, &name));
        if !stays {
            match unlinkat(&here, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(error) => match look(&here, &name)? {
                    Some(stat) if kind(&stat) == FileType::Directory => {}
                    _ => return Err(error),
                },
            }
        } else if look(&here, &name)?.is_none_or(|stat| kind(&stat) != FileType::Directory) {
            continue;
        }
        let below = open_directory(&here, &name)?;
        levels.push(Level::of(&below, name, stays)?);
        here = below;
    }
    Ok(())
}

fn id(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
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

#[cfg(test)]
mod tests {
    use rustix::fs::{mkdirat, open};

    use super::*;

    #[test]
    fn depth_is_no_matter() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = open(dir.path(), READ, Mode::empty()).unwrap();
        let mut inner = top.try_clone().unwrap();
        for _ in 0..6000 {
            mkdirat(&inner, "d", Mode::RWXU).unwrap();
            inner = open_directory(&inner, b"d").unwrap();
        }
        drop(inner);
        // Of the first directories nothing is removed, as a layer has made them.
        let first = look(&top, b"d").unwrap().unwrap().st_ino;
        let stays = |inode: u64, _: &[u8]| inode == id(&top).unwrap().1 || inode == first;
        let cancel = Cancel::default();
        empty(top.try_clone().unwrap(), Some(&stays), &cancel).unwrap();
        assert!(dir.path().join("d/d").is_dir() && !dir.path().join("d/d/d").exists());
        assert!(remove(&top, b"d", &cancel).unwrap());
        assert_eq!(names(&top).unwrap().len(), 0);
    }
}
