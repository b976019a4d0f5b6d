//! The tree that a layer is unpacked into. No name leads out of it, whatever links are there.

use std::{collections::VecDeque, os::fd::OwnedFd, rc::Rc};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, open, openat, openat2},
    fs::{readlinkat, statat},
    io::Errno,
};

use super::metadata;
use crate::{
    DiffError,
    error::{MAX_DEPTH, shown},
};

/// Links that one name may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory in the tree.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) fd: Rc<OwnedFd>,
    /// Its inode.
    pub(super) inode: u64,
}

/// The tree, and the directory that was used last.
pub(super) struct Tree {
    root: Directory,
    /// The layers below, nearest first, that directories have their owners and modes from.
    lower: Vec<OwnedFd>,
    last: Option<(Vec<u8>, Directory)>,
    /// Directories that were made because they were missing, since this was asked last: the inode of the directory
    /// that each is in, and its name.
    made: Vec<(u64, Vec<u8>)>,
}

impl Tree {
    pub(super) fn open(root: &[u8], lower: &[Vec<u8>]) -> Result<Self, DiffError> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let of =
            |path: &[u8]| open(path, directory, Mode::empty()).map_err(DiffError::io("open", path));
        let lower = lower.iter().map(|path| of(path)).collect::<Result<_, _>>()?;
        let root = with_inode(of(root)?).map_err(DiffError::io("look at", root))?;
        Ok(Self { root, lower, last: None, made: Vec::new() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root.fd
    }

    /// Something was removed or replaced that paths may lead through.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// What was made by [`Tree::parent`]: the inode of its directory, and its name there.
    pub(super) fn take_made(&mut self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.made)
    }

    /// The directory that an entry is in, which is made if it is missing.
    pub(super) fn parent(&mut self, name: &[u8], parent: &[&[u8]]) -> Result<Directory, DiffError> {
        if parent.is_empty() {
            return Ok(self.root.clone());
        }
        if parent.len() >= MAX_DEPTH {
            return Err(DiffError::too_deep(name));
        }
        let path = parent.join(&b'/');
        if let Some((last, directory)) = &self.last
            && *last == path
        {
            return Ok(directory.clone());
        }
        let directory = match self.beneath(&path) {
            Ok(directory) => directory,
            Err(_) => self.walk(name, parent)?,
        };
        self.last = Some((path, directory.clone()));
        Ok(directory)
    }

    /// The directory of something that has to be there.
    pub(super) fn existing(&self, parent: &[&[u8]]) -> Result<Directory, Errno> {
        if parent.is_empty() {
            return Ok(self.root.clone());
        }
        let path = parent.join(&b'/');
        match self.beneath(&path) {
            Err(Errno::XDEV) => {
                // An absolute link, whose root is this one.
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let opened = open_inside(&self.root.fd, &path, flags, ResolveFlags::IN_ROOT);
                opened.and_then(with_inode)
            }
            other => other,
        }
    }

    /// What is there, if links that are absolute or lead out are not in the way.
    fn beneath(&self, path: &[u8]) -> Result<Directory, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        open_inside(&self.root.fd, path, flags, ResolveFlags::BENEATH).and_then(with_inode)
    }

    /// Goes from directory to directory. Absolute links begin at the root of the tree, as they will for a
    /// container; what is missing is made.
    fn walk(&mut self, name: &[u8], parent: &[&[u8]]) -> Result<Directory, DiffError> {
        let mut left: VecDeque<Vec<u8>> = parent.iter().map(|part| part.to_vec()).collect();
        // Names of the directories above, and their inodes.
        let mut stack: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut here = self.root.clone();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match &*part {
                b"" | b"." => continue,
                b".." => {
                    if stack.pop().is_none() {
                        let problem = "leads out of the layer by a symbolic link";
                        return Err(DiffError::entry(name, problem));
                    }
                    let inode = stack.last().map_or(self.root.inode, |(_, inode)| *inode);
                    here = above(&here, inode).map_err(DiffError::io("open a parent of", name))?;
                    continue;
                }
                _ if stack.len() >= MAX_DEPTH => return Err(DiffError::too_deep(name)),
                _ => {}
            }
            let next = match openat(&*here.fd, &*part, DIRECTORY, Mode::empty()) {
                Ok(fd) => with_inode(fd).map_err(DiffError::io("look at a parent of", name))?,
                Err(Errno::NOENT) => {
                    let path: Vec<&[u8]> = stack.iter().map(|(part, _)| &**part).collect();
                    let made = self.make(&here, &path, &part);
                    made.map_err(DiffError::io("make a parent of", name))?
                }
                // With these flags a link is no directory.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = readlinkat(&*here.fd, &*part, Vec::new()).map_err(|_| {
                        let part = shown(&part);
                        DiffError::entry(name, format!("is below {part:?}, which is no directory"))
                    })?;
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(DiffError::entry(name, "is below links that lead in circles"));
                    }
                    let target = target.into_bytes();
                    if target.starts_with(b"/") {
                        stack.clear();
                        here = self.root.clone();
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        left.push_front(part.to_vec());
                    }
                    continue;
                }
                Err(error) => return Err(DiffError::io("open a parent of", name)(error)),
            };
            stack.push((part, next.inode));
            here = next;
        }
        Ok(here)
    }

    /// Makes a directory that an entry needs. In the upper directory of an overlay it looks like that of
    /// the layers below, which it is merged with.
    fn make(&mut self, here: &Directory, path: &[&[u8]], part: &[u8]) -> Result<Directory, Errno> {
        mkdirat(&*here.fd, part, Mode::from_raw_mode(0o755))?;
        let fd = openat(&*here.fd, part, DIRECTORY, Mode::empty())?;
        let whole = [path, &[part]].concat().join(&b'/');
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let mut below =
            self.lower.iter().map(|root| open_inside(root, &whole, flags, ResolveFlags::IN_ROOT));
        let model = below.find(|found| !matches!(found, Err(Errno::NOENT | Errno::NOTDIR)));
        match model.transpose()? {
            Some(model) => metadata::copy_directory(&model, &here.fd, part)?,
            // The process's mask may have taken some of it.
            None => {
                rustix::fs::chmodat(&*here.fd, part, Mode::from_raw_mode(0o755), AtFlags::empty())?;
            }
        }
        self.made.push((here.inode, part.to_vec()));
        with_inode(fd)
    }
}

/// The directory that this one is in, which has that inode unless this one was moved meanwhile.
fn above(here: &Directory, inode: u64) -> Result<Directory, Errno> {
    let found = with_inode(openat(&*here.fd, "..", DIRECTORY, Mode::empty())?)?;
    if found.inode == inode { Ok(found) } else { Err(Errno::STALE) }
}

/// Opens what a path leads to within a directory.
fn open_inside(
    root: &OwnedFd,
    path: &[u8],
    flags: OFlags,
    scope: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let inside = scope | ResolveFlags::NO_MAGICLINKS;
    until_quiet(|| openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside))
}

/// openat2(2) cannot follow a ".." while anything is renamed or mounted on the host.
fn until_quiet<T>(open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match open() {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

fn with_inode(fd: OwnedFd) -> Result<Directory, Errno> {
    let inode = rustix::fs::fstat(&fd)?.st_ino;
    Ok(Directory { fd: Rc::new(fd), inode })
}

/// What has this name, if something has.
pub(super) fn look(directory: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A path of what is in a directory, for calls that know no descriptors. It leads through no link.
pub(crate) fn path_in(directory: &impl std::os::fd::AsRawFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/thread-self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_renamed_elsewhere_is_no_matter() {
        let calls = Cell::new(0);
        let opened = until_quiet(|| {
            calls.set(calls.get() + 1);
            if calls.get() < 1000 { Err(Errno::AGAIN) } else { Ok(()) }
        });
        assert_eq!((opened, calls.get()), (Ok(()), 1000));
        assert_eq!(until_quiet(|| Err::<(), _>(Errno::NOENT)), Err(Errno::NOENT));
    }
}
