//! Times of directories: whatever is made in a directory changes its time, so that they are set at the end.

use rustix::{fs::FileType, io::Errno};

use super::{
    metadata,
    tree::{Tree, kind, look},
};
use crate::{
    DiffError,
    archive::{Entry, Time},
};

/// How many bytes of names are kept before the times of directories are set that the archive has left.
const MOST: usize = 4 << 20;

/// What every directory takes beside its name.
const OF_ONE: usize = size_of::<(Vec<u8>, Time, Time)>();

/// Times to be set.
#[derive(Default)]
pub(super) struct Times {
    directories: Vec<(Vec<u8>, Time, Time)>,
    size: usize,
}

impl Times {
    pub(super) fn note(&mut self, parent: &[&[u8]], base: &[u8], entry: &Entry) {
        let path = [parent, &[base]].concat().join(&b'/');
        self.size += path.len() + OF_ONE;
        self.directories.push((path, entry.atime, entry.mtime));
    }

    /// Sets the times of all directories but those that the archive is in, if there are very many. One that the
    /// archive returns to has another time then.
    pub(super) fn keep_small(&mut self, tree: &Tree, parent: &[&[u8]]) -> Result<(), DiffError> {
        if self.size < MOST {
            return Ok(());
        }
        let here = parent.join(&b'/');
        let (kept, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.directories)
            .into_iter()
            .partition(|(path, ..)| here.starts_with(path));
        self.size = kept.iter().map(|(path, ..)| path.len() + OF_ONE).sum();
        self.directories = kept;
        left.iter().try_for_each(|(path, atime, mtime)| set(tree, path, *atime, *mtime))
    }

    pub(super) fn set(&self, tree: &Tree) -> Result<(), DiffError> {
        let mut directories = self.directories.iter();
        directories.try_for_each(|(path, atime, mtime)| set(tree, path, *atime, *mtime))
    }
}

/// The directory may have been replaced, or removed, by a later entry.
fn set(tree: &Tree, path: &[u8], atime: Time, mtime: Time) -> Result<(), DiffError> {
    let mut parent: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let Some(base) = parent.pop() else { return Ok(()) };
    let done = tree.existing(&parent).and_then(|directory| match look(&directory.fd, base)? {
        Some(stat) if kind(&stat) == FileType::Directory => {
            metadata::set_times(&directory.fd, base, atime, mtime)
        }
        _ => Ok(()),
    });
    match done {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other.map_err(DiffError::io("set the times of", path)),
    }
}
