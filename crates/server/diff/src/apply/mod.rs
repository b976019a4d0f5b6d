//! Unpacks a layer into a directory.

mod early;
mod metadata;
mod name;
mod remove;
#[cfg(test)]
mod tests;
mod times;
mod tree;
mod whiteout;
mod writer;

use std::{
    io::{BufRead, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use early::Early;
use gantry_failpoints::{Point, reach};
pub(crate) use remove::names;
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ftruncate, linkat, makedev, mkdirat, mknodat, openat,
        symlinkat, syncfs,
    },
    io::{Errno, pwrite},
};
use times::Times;
use tree::{Directory, Tree, look};
pub(crate) use tree::{kind, path_in};
use whiteout::{Meaning, Whiteouts};

use crate::{
    Bounds, Cancel, DiffError,
    archive::{Archive, Entry, EntryKind, Sparse},
    compression::Packing,
    error::shown,
    pipeline::{self, Unpacked},
};

/// Where a layer is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The directory. Nothing else than layers changes it meanwhile, and these one after the other.
    pub root: PathBuf,
    /// If it is the upper directory of an overlay.
    pub overlay: Option<Overlay>,
}

/// The rest of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The directories of its lower layers, nearest first.
    pub lower: Vec<PathBuf>,
    /// Its notes are attributes of users, and not those of administrators.
    pub has_user_attributes: bool,
}

/// How a layer is unpacked.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// What its media type says.
    pub packing: Packing,
    /// What it may have at most.
    pub bounds: Bounds,
    /// All is on the disk at the end.
    pub sync: bool,
    /// Stops it.
    pub cancel: Cancel,
}

/// Unpacks a layer. After an error a part of it is there.
///
/// # Errors
/// If the layer is damaged, leads out of the directory or cannot be read, or a file cannot be made.
pub fn apply<R: Read + Send>(
    layer: R,
    target: &Target,
    options: &ApplyOptions,
) -> Result<Unpacked, DiffError> {
    let ApplyOptions { packing, bounds, sync, cancel } = options;
    let _only_one = writer::alone(&target.root, cancel)?;
    let has_failed = AtomicBool::new(false);
    let is_wanted = || !cancel.is_cancelled() && !has_failed.load(Ordering::Relaxed);
    let unpacked = thread::scope(|scope| {
        let early = Early::begin(scope, is_wanted).map_err(DiffError::Thread)?;
        pipeline::run(layer, *packing, bounds.bytes, cancel, |incoming| {
            let unpacked = unpack(incoming, target, *bounds, early, cancel);
            unpacked.inspect_err(|_| has_failed.store(true, Ordering::Relaxed))
        })
    })?;
    if *sync {
        let root = target.root.as_os_str().as_bytes();
        let directory = Tree::open(root, &[])?;
        syncfs(directory.root()).map_err(DiffError::io("sync", root))?;
    }
    Ok(unpacked)
}

/// Unpacks an archive, and reads it to its end.
fn unpack<R: BufRead>(
    input: R,
    target: &Target,
    bounds: Bounds,
    early: Early,
    cancel: &Cancel,
) -> Result<(), DiffError> {
    let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
    let (lower, whiteouts) = match &target.overlay {
        None => (Vec::new(), Whiteouts::remove()),
        Some(overlay) => {
            let attribute = match overlay.has_user_attributes {
                true => "user.overlay.opaque",
                false => "trusted.overlay.opaque",
            };
            (overlay.lower.iter().map(bytes).collect(), Whiteouts::Hide { attribute })
        }
    };
    let tree = Tree::open(&bytes(&target.root), &lower)?;
    let mut archive = Archive::new(input);
    let mut unpacking = Unpacking { tree, whiteouts, times: Times::default(), early, cancel };
    let mut budget = bounds.budget();
    let mut last = String::new();
    // What is damaged has no name: the entry before it is named.
    let in_archive = |error: crate::archive::ArchiveError, last: &str| match error {
        crate::archive::ArchiveError::Malformed(problem) if !last.is_empty() => {
            let problem = format!("comes before what cannot be read: the archive {problem}");
            DiffError::Entry { name: last.to_owned(), problem }
        }
        other => other.into(),
    };
    while let Some(entry) = archive.next().map_err(|error| in_archive(error, &last))? {
        cancel.check()?;
        budget.take(&entry, archive.left())?;
        unpacking.entry(&entry, &mut archive)?;
        reach(Point::ServerEntryUnpacked);
        last = shown(&entry.name);
    }
    unpacking.times.set(&unpacking.tree)?;
    archive.finish()?;
    reach(Point::ServerLayerUnpacked);
    Ok(())
}

struct Unpacking<'a> {
    tree: Tree,
    whiteouts: Whiteouts,
    /// Of directories, which are set when nothing changes in them any more.
    times: Times,
    early: Early,
    cancel: &'a Cancel,
}

impl Unpacking<'_> {
    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), DiffError> {
        if entry.kind == EntryKind::Global {
            return Ok(());
        }
        let mut parent = name::components(&entry.name)?;
        // The root keeps what it has, as in containerd.
        let Some(base) = parent.pop() else { return Ok(()) };
        let directory = self.tree.parent(&entry.name, &parent)?;
        for (directory, name) in self.tree.take_made() {
            self.whiteouts.note(directory, &name);
        }
        match whiteout::meaning(entry, base)? {
            Meaning::File => {}
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque => {
                self.tree.forget();
                let done = self.whiteouts.opaque(&directory, self.cancel);
                return done.map_err(self.failed("empty the directory of", entry));
            }
            Meaning::Gone(name) => {
                self.tree.forget();
                let done = self.whiteouts.gone(&directory, name, entry, self.cancel);
                return done.map_err(self.failed("remove what is gone by", entry));
            }
        }
        self.file(entry, archive, &directory, base)?;
        self.whiteouts.note(directory.inode, base);
        if entry.kind == EntryKind::Directory {
            self.times.note(&parent, base, entry);
            self.times.keep_small(&self.tree, &parent)?;
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        directory: &Directory,
        base: &[u8],
    ) -> Result<(), DiffError> {
        let fd = &directory.fd;
        match entry.kind {
            EntryKind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o600);
                let file =
                    self.place(entry, directory, base, || openat(&**fd, base, flags, mode))?;
                let size = archive.left();
                self.fill(entry, archive, &file)?;
                let done = metadata::of_file(&file, entry);
                done.map_err(self.failed("set owner, mode or attributes of", entry))?;
                self.early.finished(file, size);
                return Ok(());
            }
            EntryKind::Directory => self.directory(entry, directory, base)?,
            EntryKind::Symlink => {
                if entry.link.is_empty() {
                    return Err(DiffError::entry(&entry.name, "is a link to nothing"));
                }
                self.place(entry, directory, base, || symlinkat(&*entry.link, &**fd, base))?;
            }
            // Its owner, mode, attributes and times are those of the file, of which it is another name.
            EntryKind::HardLink => return self.link(entry, directory, base),
            EntryKind::Character => self.node(entry, directory, base, FileType::CharacterDevice)?,
            EntryKind::Block => self.node(entry, directory, base, FileType::BlockDevice)?,
            EntryKind::Fifo => self.node(entry, directory, base, FileType::Fifo)?,
            EntryKind::Global => return Ok(()),
            EntryKind::Unknown(kind) => {
                let problem = format!("is of the type {:?}, which no layer has", char::from(kind));
                return Err(DiffError::entry(&entry.name, problem));
            }
        }
        let done = metadata::of_name(fd, base, entry);
        done.map_err(self.failed("set owner, mode or attributes of", entry))
    }

    /// Makes something, in the place of what has its name.
    fn place<T>(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        base: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, DiffError> {
        match make() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(self.failed("make", entry)),
        }
        self.tree.forget();
        let removed = remove::remove(&directory.fd, base, self.cancel);
        removed.map_err(self.failed("replace", entry))?;
        make().map_err(self.failed("make", entry))
    }

    /// Makes a directory, if there is none to be merged with.
    fn directory(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        base: &[u8],
    ) -> Result<(), DiffError> {
        let make = || mkdirat(&*directory.fd, base, Mode::from_raw_mode(0o700));
        match make() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(self.failed("make", entry)),
        }
        let there = look(&directory.fd, base).map_err(self.failed("look at", entry))?;
        if there.as_ref().is_some_and(|stat| kind(stat) == FileType::Directory) {
            return Ok(());
        }
        let was_hidden = there.is_some_and(|stat| self.whiteouts.is_hidden(&stat));
        self.place(entry, directory, base, make)?;
        if was_hidden {
            let done = self.whiteouts.hide_below(&directory.fd, base);
            done.map_err(self.failed("hide what is below", entry))?;
        }
        Ok(())
    }

    fn link(&mut self, entry: &Entry, directory: &Directory, base: &[u8]) -> Result<(), DiffError> {
        let missing = || {
            let link = shown(&entry.link);
            DiffError::entry(&entry.name, format!("is a hard link to {link:?}, which is not there"))
        };
        let mut parent = name::linked(&entry.name, &entry.link)?;
        let name = parent.pop().ok_or_else(missing)?;
        let from = self.tree.existing(&parent).map_err(|_| missing())?;
        if look(&from.fd, name).map_err(self.failed("look at the target of", entry))?.is_none() {
            return Err(missing());
        }
        if from.inode == directory.inode && name == base {
            return Ok(());
        }
        self.place(entry, directory, base, || {
            linkat(&*from.fd, name, &*directory.fd, base, AtFlags::empty())
        })
    }

    fn node(
        &mut self,
        entry: &Entry,
        directory: &Directory,
        base: &[u8],
        kind: FileType,
    ) -> Result<(), DiffError> {
        let [major, minor] = entry.device;
        let device = if kind == FileType::Fifo { 0 } else { makedev(major, minor) };
        self.place(entry, directory, base, || {
            mknodat(&*directory.fd, base, kind, Mode::from_raw_mode(0o600), device)
        })
    }

    /// Writes the data where they belong.
    fn fill<R: BufRead>(
        &self,
        entry: &Entry,
        archive: &mut Archive<R>,
        file: &OwnedFd,
    ) -> Result<(), DiffError> {
        let whole = [[0, u64::MAX]];
        let mut since = 0;
        let pieces = entry.sparse.as_ref().map_or(&whole[..], |sparse| &sparse.pieces);
        for &[offset, length] in pieces {
            let (mut at, mut left) = (offset, length);
            while left > 0 {
                let data = archive.data()?;
                if data.is_empty() {
                    break;
                }
                let part = &data[..usize::try_from(left).unwrap_or(usize::MAX).min(data.len())];
                let written = match pwrite(file, part, at) {
                    Err(Errno::INTR) => 0,
                    other => other.map_err(self.failed("write", entry))?,
                };
                archive.consume(written);
                self.early.written(file, written as u64, &mut since);
                (at, left) = (at + written as u64, left - written as u64);
                self.cancel.check()?;
            }
        }
        if let Some(Sparse { size, .. }) = entry.sparse {
            ftruncate(file, size).map_err(self.failed("write", entry))?;
        }
        Ok(())
    }

    fn failed(&self, what: &'static str, entry: &Entry) -> impl FnOnce(Errno) -> DiffError {
        let name = entry.name.clone();
        move |error| match error {
            Errno::CANCELED => DiffError::Cancelled,
            error => DiffError::io(what, name)(error),
        }
    }
}
