//! The layer that is written: files with their parents, hard links to what was written before, and what is gone.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat, statat},
    io::{Errno, read},
};

use super::{
    DiffOptions, below,
    header::{BLOCK, Fields, Flag, encode},
    output::Outgoing,
    same,
};
use crate::{DiffError, apply::kind};

/// An archive ends with two blocks of zeros.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Device and inode.
type File = (u64, u64);

/// A layer that is written.
pub(super) struct Layer<'a> {
    archive: &'a mut Outgoing,
    /// Of the tree that the layer is to make.
    root: &'a OwnedFd,
    options: &'a DiffOptions,
    /// Directories that the archive has.
    directories: HashSet<Vec<u8>>,
    /// Files with several names that the archive has, by the first of these.
    links: HashMap<File, Vec<u8>>,
    /// Names of files that are the same in both trees. If another name of such a file is new, the archive needs all.
    same: HashMap<File, Vec<Vec<u8>>>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(
        archive: &'a mut Outgoing,
        root: &'a OwnedFd,
        options: &'a DiffOptions,
    ) -> Self {
        let (directories, links, same) = Default::default();
        Self { archive, root, options, directories, links, same }
    }

    pub(super) fn finish(self) -> Result<(), DiffError> {
        self.archive.write(&END).map_err(DiffError::Output)
    }

    /// Something that is new, or has changed: `name` in the directory `parent`.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        stat: &Stat,
    ) -> Result<(), DiffError> {
        let Some(mut fields) = self.fields(path, parent, name, stat)? else { return Ok(()) };
        self.parents(path)?;
        if fields.flag == Flag::Directory {
            return self.directory(path, &fields);
        }
        let file = (stat.st_dev, stat.st_ino);
        let has_more = stat.st_nlink > 1;
        if has_more && let Some(first) = self.links.get(&file) {
            fields.flag = Flag::Link;
            fields.link.clone_from(first);
            return self.write(&encode(path, &fields));
        }
        match fields.flag {
            Flag::File => self.file(path, parent, name, fields.clone())?,
            _ => self.write(&encode(path, &fields))?,
        }
        if has_more {
            self.links.insert(file, path.to_vec());
            for other in self.same.remove(&file).unwrap_or_default() {
                self.parents(&other)?;
                fields.flag = Flag::Link;
                fields.link = path.to_vec();
                self.write(&encode(&other, &fields))?;
            }
        }
        Ok(())
    }

    /// A file that is the same in both trees. If another name of it was written, this one has to be, too.
    pub(super) fn keep(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        stat: &Stat,
    ) -> Result<(), DiffError> {
        if stat.st_nlink < 2 || kind(stat) == FileType::Directory {
            return Ok(());
        }
        let file = (stat.st_dev, stat.st_ino);
        if self.links.contains_key(&file) {
            return self.add(path, parent, name, stat);
        }
        self.same.entry(file).or_default().push(path.to_vec());
        Ok(())
    }

    /// A name that is gone.
    pub(super) fn gone(&mut self, parent: &[u8], name: &[u8]) -> Result<(), DiffError> {
        let path = below(parent, &[b".wh.", name].concat());
        self.parents(&path)?;
        let fields = Fields {
            flag: Flag::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: i64::try_from(self.options.epoch.unwrap_or_default()).unwrap_or_default(),
            device: [0, 0],
            link: Vec::new(),
            capability: None,
        };
        self.write(&encode(&path, &fields))
    }

    /// Directories that the archive has to have before.
    fn parents(&mut self, path: &[u8]) -> Result<(), DiffError> {
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        let parent = &path[..end];
        if self.directories.contains(parent) {
            return Ok(());
        }
        self.parents(parent)?;
        // The walk has come through all of them as directories.
        let stat = statat(self.root, parent, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(DiffError::io("look at", parent))?;
        let Some(fields) = self.fields(parent, self.root, parent, &stat)? else { return Ok(()) };
        self.directory(parent, &fields)
    }

    fn directory(&mut self, path: &[u8], fields: &Fields) -> Result<(), DiffError> {
        if self.directories.insert(path.to_vec()) {
            self.write(&encode(&[path, b"/"].concat(), fields))?;
        }
        Ok(())
    }

    /// What the header says; `None` of a socket, which no archive can have.
    fn fields(
        &self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        stat: &Stat,
    ) -> Result<Option<Fields>, DiffError> {
        let flag = match kind(stat) {
            FileType::RegularFile => Flag::File,
            FileType::Directory => Flag::Directory,
            FileType::Symlink => Flag::Symlink,
            FileType::Fifo => Flag::Fifo,
            FileType::CharacterDevice => Flag::Character,
            FileType::BlockDevice => Flag::Block,
            _ => {
                tracing::debug!(
                    path = crate::error::shown(path),
                    "a socket is left out of a layer"
                );
                return Ok(None);
            }
        };
        let link = match flag {
            Flag::Symlink => readlinkat(parent, name, Vec::new())
                .map_err(DiffError::io("read the link", path))?
                .into_bytes(),
            _ => Vec::new(),
        };
        let device = match flag {
            Flag::Character | Flag::Block => [major(stat.st_rdev), minor(stat.st_rdev)],
            _ => [0, 0],
        };
        let capability = match flag {
            Flag::File => same::capability(parent, name)
                .map_err(DiffError::io("read the capabilities of", path))?,
            _ => None,
        };
        let youngest = self.options.epoch.and_then(|epoch| i64::try_from(epoch).ok());
        Ok(Some(Fields {
            flag,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: 0,
            mtime: youngest.map_or(stat.st_mtime, |youngest| stat.st_mtime.min(youngest)),
            device,
            link,
            capability,
        }))
    }

    /// A file, with its data.
    fn file(
        &mut self,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        fields: Fields,
    ) -> Result<(), DiffError> {
        let file = same::open_file(parent, name).map_err(DiffError::io("open", path))?;
        let stat = fstat(&file).map_err(DiffError::io("look at", path))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.write(&encode(path, &Fields { size, ..fields }))?;
        let mut left = size;
        while left > 0 {
            self.options.cancel.check()?;
            let free = {
                self.archive.room().map_err(DiffError::Output)?;
                self.archive.free()
            };
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(free);
            let buffer = self.archive.room().map_err(DiffError::Output)?;
            let begin = buffer.len();
            buffer.resize(begin + length, 0);
            let count = match read(&file, &mut buffer[begin..]) {
                Err(Errno::INTR) => {
                    buffer.truncate(begin);
                    continue;
                }
                other => other.map_err(DiffError::io("read", path))?,
            };
            buffer.truncate(begin + count);
            if count == 0 {
                return Err(DiffError::entry(path, "has become shorter while it was read"));
            }
            left -= count as u64;
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        self.write(&END[..(BLOCK - over) % BLOCK])
    }

    fn write(&mut self, data: &[u8]) -> Result<(), DiffError> {
        self.archive.write(data).map_err(DiffError::Output)
    }

    /// The mark of a directory that has nothing of the layers below.
    pub(super) fn opaque(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.gone(path, b".wh..opq")
    }
}

/// Opens what was found to be a directory.
pub(super) fn open_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}
