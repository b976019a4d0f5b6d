//! What a layer says is gone, by the names that the OCI image specification has for it.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, Stat, Uid, XattrFlags, chownat, makedev, mknodat, setxattr,
    },
    io::Errno,
};

use super::{
    remove::{empty, open_directory, remove},
    tree::{Directory, kind, look, path_in},
};
use crate::{Cancel, DiffError, archive::Entry};

const PREFIX: &[u8] = b".wh.";

/// The directory has nothing of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Names that begin so, but for the one above, are notes of the file system AUFS.
const NOTES: &[u8] = b".wh..wh.";

/// What an entry is.
pub(super) enum Meaning<'a> {
    File,
    /// Everything in the directory is gone that is not of this layer.
    Opaque,
    /// This name is gone.
    Gone(&'a [u8]),
    Nothing,
}

pub(super) fn meaning<'a>(entry: &Entry, base: &'a [u8]) -> Result<Meaning<'a>, DiffError> {
    Ok(match base.strip_prefix(PREFIX) {
        None => Meaning::File,
        Some(_) if base == OPAQUE => Meaning::Opaque,
        Some(_) if base.starts_with(NOTES) => Meaning::Nothing,
        Some(b"" | b"." | b"..") => {
            return Err(DiffError::entry(&entry.name, "is no name of something that is gone"));
        }
        Some(gone) => Meaning::Gone(gone),
    })
}

/// What is done about what is gone.
pub(super) enum Whiteouts {
    /// It is removed; what this layer has made is known, by hashes of directory and name.
    Remove { made: HashSet<u64>, hasher: RandomState },
    /// It is hidden, in the upper directory of an overlay: by a device of the numbers 0, or by this attribute of
    /// the directory.
    Hide { attribute: &'static str },
}

impl Whiteouts {
    pub(super) fn remove() -> Self {
        Self::Remove { made: HashSet::new(), hasher: RandomState::new() }
    }

    /// This layer has made something in the directory that has this inode.
    pub(super) fn note(&mut self, directory: u64, name: &[u8]) {
        if let Self::Remove { made, hasher } = self {
            made.insert(hasher.hash_one((directory, name)));
        }
    }

    /// Empties a directory but for what this layer has made.
    pub(super) fn opaque(&self, directory: &Directory, cancel: &Cancel) -> Result<(), Errno> {
        match self {
            Self::Hide { attribute } => {
                setxattr(path_in(&*directory.fd, b"."), *attribute, b"y", XattrFlags::empty())
            }
            Self::Remove { made, hasher } => {
                let fd = open_directory(&directory.fd, b".")?;
                let is_of_layer =
                    |inode: u64, name: &[u8]| made.contains(&hasher.hash_one((inode, name)));
                empty(fd, Some(&is_of_layer), cancel)
            }
        }
    }

    pub(super) fn gone(
        &self,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        cancel: &Cancel,
    ) -> Result<(), Errno> {
        let Self::Hide { .. } = self else {
            return remove(&directory.fd, name, cancel).map(drop);
        };
        match look(&directory.fd, name)? {
            None => {
                let device = makedev(0, 0);
                let kind = FileType::CharacterDevice;
                mknodat(&*directory.fd, name, kind, Mode::empty(), device)?;
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                chownat(&*directory.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
            // Of this layer, which has it instead of the one below.
            Some(stat) if kind(&stat) == FileType::Directory => {
                self.hide_below(&directory.fd, name)
            }
            Some(_) => Ok(()),
        }
    }

    /// A directory takes the place of something that this layer says is gone: nothing of the layers below is in it.
    pub(super) fn hide_below(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let Self::Hide { attribute } = self else { return Ok(()) };
        setxattr(path_in(directory, name), *attribute, b"y", XattrFlags::empty())
    }

    /// Whether this hides a name of the layers below.
    pub(super) fn is_hidden(&self, stat: &Stat) -> bool {
        matches!(self, Self::Hide { .. })
            && kind(stat) == FileType::CharacterDevice
            && stat.st_rdev == 0
    }
}
