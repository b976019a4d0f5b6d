//! Removes what was moved to the trash.

use std::{ffi::CString, path::Path};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Dir, FileType, RenameFlags, renameat_with, unlinkat},
    io::Errno,
};

use crate::{SnapshotError, walk};

/// Deeper directories are moved up to the trash themselves: a container can make them as deep as it likes.
const MAX_DEPTH: usize = 64;

/// Removes all that is in the trash; what is not possible to remove stays, and is reported.
pub(crate) fn empty(path: &Path) -> Result<(), SnapshotError> {
    let failed = || SnapshotError::io::<Errno>("empty", path);
    let trash = walk::top(path)?;
    let mut next = 0;
    loop {
        let mut names = Vec::new();
        let mut dir = Dir::read_from(&trash).map_err(failed())?;
        while let Some(entry) = walk::next(&mut dir).map_err(failed())? {
            names.push(entry.file_name().to_owned());
        }
        let mut removed = 0;
        let mut problem = None;
        for name in names {
            match remove(&trash, name, &mut next) {
                Ok(()) => removed += 1,
                Err(error) => problem = Some(error),
            }
        }
        // Something may have been moved here meanwhile.
        match problem {
            _ if removed > 0 => {}
            None => return Ok(()),
            Some(error) => return Err(failed()(error)),
        }
    }
}

/// Removes a directory with all that is in it, but nothing that is mounted there. `next` is the number of the next one
/// that is moved up.
fn remove(trash: &OwnedFd, name: CString, next: &mut u64) -> Result<(), Errno> {
    let mut open = match walk::enter(trash, &name) {
        Ok(top) => vec![(Dir::new(top)?, name)],
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(trash, &name, AtFlags::empty()),
        Err(error) => return Err(error),
    };
    loop {
        let depth = open.len();
        let Some((dir, _)) = open.last_mut() else { return Ok(()) };
        let Some(entry) = walk::next(dir)? else {
            let Some((_, name)) = open.pop() else { return Ok(()) };
            let parent = open.last().map(|(dir, _)| dir.fd()).transpose()?;
            unlinkat(parent.unwrap_or(trash.as_fd()), &name, AtFlags::REMOVEDIR)?;
            continue;
        };
        let (parent, name) = (dir.fd()?, entry.file_name());
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(walk::look(parent, name)?.st_mode),
            kind => kind,
        };
        if kind != FileType::Directory {
            unlinkat(parent, name, AtFlags::empty())?;
        } else if depth < MAX_DEPTH {
            let (inner, name) = (walk::enter(parent, name)?, name.to_owned());
            open.push((Dir::new(inner)?, name));
        } else {
            move_up(trash, parent, &name.to_owned(), next)?;
        }
    }
}

/// Moves a directory to the trash, under a name that is free there. There can be a million of them: none of their
/// names is tried twice.
fn move_up(
    trash: &OwnedFd,
    parent: impl AsFd,
    name: &CString,
    next: &mut u64,
) -> Result<(), Errno> {
    loop {
        let to = format!("deep-{next}");
        *next += 1;
        match renameat_with(&parent, name, trash, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            moved => return moved,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_name_is_tried_twice() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/one", "a/two", "a/three", "deep-1"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let (trash, parent) = (walk::top(dir.path()), walk::top(&dir.path().join("a")));
        let (trash, parent) = (trash.unwrap(), parent.unwrap());
        let mut next = 0;
        for (name, after) in [(c"one", 1), (c"two", 3), (c"three", 4)] {
            move_up(&trash, &parent, &name.to_owned(), &mut next).unwrap();
            assert_eq!(next, after);
        }
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
