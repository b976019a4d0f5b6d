//! Copies of whole trees: contents with their holes, hard links, devices, owners, modes, extended attributes and
//! times.

mod attributes;
mod data;

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, linkat, mkdirat, mknodat, openat, readlinkat,
        symlinkat,
    },
    io::Errno,
};

use crate::{
    SnapshotError,
    walk::{self, MAX_DEPTH},
};

/// A directory that is being copied.
struct Open {
    from: Dir,
    to: OwnedFd,
}

/// Copies what is in a directory to one that is empty, and makes that like the first one. What is mounted below is not
/// copied.
pub(crate) fn tree(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let failed = || SnapshotError::io::<Errno>("copy", from);
    let top = Open { from: Dir::new(walk::top(from)?).map_err(failed())?, to: walk::top(to)? };
    let mut copy = Copy { open: vec![top], at: PathBuf::new(), linked: HashMap::new() };
    while let Some(dir) = copy.open.last_mut() {
        match walk::next(&mut dir.from).map_err(failed())? {
            Some(entry) => {
                copy.entry(entry.file_name()).map_err(failed())?;
                if copy.open.len() > MAX_DEPTH {
                    return Err(SnapshotError::TooDeep(MAX_DEPTH));
                }
            }
            None => copy.leave().map_err(failed())?,
        }
    }
    Ok(())
}

struct Copy {
    /// Each in the one before.
    open: Vec<Open>,
    /// Where that is, below the first one.
    at: PathBuf,
    /// Files with several names, and where the copy is.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    /// Copies what has this name in the last directory.
    fn entry(&mut self, name: &CStr) -> Result<(), Errno> {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else {
            return Ok(());
        };
        let from = last.from.fd()?;
        let found = walk::look(from, name)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Directory {
            let inner = match walk::enter(from, name) {
                // Something is mounted there: what is copied is the empty place.
                Err(Errno::XDEV) => return mkdirat(&last.to, name, Mode::from_raw_mode(0o755)),
                inner => inner?,
            };
            mkdirat(&last.to, name, Mode::RWXU)?;
            let to = walk::enter(&last.to, name)?;
            self.at.push(OsStr::from_bytes(name.to_bytes()));
            self.open.push(Open { from: Dir::new(inner)?, to });
            return Ok(());
        }
        if found.st_nlink > 1 {
            let id = (found.st_dev, found.st_ino);
            if let Some(copied) = self.linked.get(&id) {
                return linkat(&first.to, copied, &last.to, name, AtFlags::empty());
            }
            self.linked.insert(id, self.at.join(OsStr::from_bytes(name.to_bytes())));
        }
        file(from, &last.to, name, kind, &found)?;
        attributes::copy(from, &last.to, name, &found)
    }

    /// Ends the last directory: its times are set when nothing is made in it any more.
    fn leave(&mut self) -> Result<(), Errno> {
        self.at.pop();
        let Some(Open { from, to }) = self.open.pop() else { return Ok(()) };
        let from = from.fd()?;
        attributes::copy(from, &to, c".", &walk::look(from, c".")?)
    }
}

/// Copies what is no directory.
fn file(
    from: impl AsFd,
    to: &OwnedFd,
    name: &CStr,
    kind: FileType,
    found: &Stat,
) -> Result<(), Errno> {
    match kind {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let from = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let to = openat(to, name, flags | new, Mode::RUSR | Mode::WUSR)?;
            data::copy(&from.into(), &to.into(), u64::try_from(found.st_size).unwrap_or_default())
        }
        FileType::Symlink => {
            let target: CString = readlinkat(from, name, Vec::new())?;
            symlinkat(target, to, name)
        }
        other => mknodat(to, name, other, Mode::RUSR | Mode::WUSR, found.st_rdev),
    }
}
