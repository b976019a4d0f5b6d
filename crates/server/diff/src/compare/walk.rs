//! Goes through two trees, name by name in order.

use std::{cmp::Ordering, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Stat, statat},
    io::Errno,
};

use super::{
    below, check_depth,
    layer::{Layer, open_directory},
    same::{Found, same},
};
use crate::{
    Cancel, DiffError,
    apply::{kind, names},
};

/// A walk that writes what differs.
pub(super) struct Walk<'a, 'b> {
    pub(super) layer: &'a mut Layer<'b>,
    pub(super) cancel: &'a Cancel,
}

impl Walk<'_, '_> {
    /// Writes what differs in a directory and below: between it and `left`, if that is there, too.
    pub(super) fn directories(
        &mut self,
        left: Option<&OwnedFd>,
        right: &OwnedFd,
        path: &[u8],
    ) -> Result<(), DiffError> {
        check_depth(path)?;
        let old = left.map(|left| sorted(left, path)).transpose()?.unwrap_or_default();
        let (mut old, mut new) =
            (old.iter().peekable(), sorted(right, path)?.into_iter().peekable());
        loop {
            self.cancel.check()?;
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => (*old).cmp(new),
            };
            let name = match order {
                Ordering::Less => {
                    if let Some(name) = old.next() {
                        self.layer.gone(path, name)?;
                    }
                    continue;
                }
                Ordering::Equal => {
                    old.next();
                    new.next()
                }
                Ordering::Greater => new.next(),
            };
            let Some(name) = name else { return Ok(()) };
            let left = left.filter(|_| order == Ordering::Equal);
            self.name(left, right, &below(path, &name), &name)?;
        }
    }

    /// Writes what differs of what has one name.
    fn name(
        &mut self,
        left: Option<&OwnedFd>,
        right: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), DiffError> {
        let Some(new) = look(right, name, path)? else { return Ok(()) };
        let old = match left {
            Some(parent) => look(parent, name, path)?.map(|stat| Found { parent, stat }),
            None => None,
        };
        let is_directory = kind(&new) == FileType::Directory;
        let found = Found { parent: right, stat: new };
        let is_same = match &old {
            Some(old) => same(path, name, old, &found, self.cancel)?,
            None => false,
        };
        match is_same {
            true => self.layer.keep(path, right, name, &found.stat)?,
            false => self.layer.add(path, right, name, &found.stat)?,
        }
        if !is_directory {
            return Ok(());
        }
        let open =
            |parent: &OwnedFd| open_directory(parent, name).map_err(DiffError::io("open", path));
        let old = old.filter(|old| kind(&old.stat) == FileType::Directory);
        let old = old.map(|old| open(old.parent)).transpose()?;
        self.directories(old.as_ref(), &open(right)?, path)
    }
}

/// What has this name, unless it was removed meanwhile.
pub(super) fn look(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<Stat>, DiffError> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(DiffError::io("look at", path)(error)),
    }
}

/// The names in a directory, in order.
pub(super) fn sorted(directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, DiffError> {
    let mut names = names(directory).map_err(DiffError::io("list", path))?;
    names.sort_unstable();
    Ok(names)
}
