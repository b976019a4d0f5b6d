//! What files take of the disk.

use std::{collections::HashSet, path::Path};

use gantry_store::SnapshotUsage;
use rustix::{
    fs::{Dir, FileType, Stat, fstat},
    io::Errno,
};

use crate::{
    SnapshotError,
    walk::{self, MAX_DEPTH},
};

/// Counts a directory and all that is in it, but not what is mounted there. Files with several names count once.
/// What goes away meanwhile does not count.
pub(crate) fn of(path: &Path) -> Result<SnapshotUsage, SnapshotError> {
    let failed = || SnapshotError::io::<Errno>("count the files of", path);
    let top = walk::top(path)?;
    let mut count = Count::default();
    count.add(&fstat(&top).map_err(failed())?);
    let mut open = vec![Dir::new(top).map_err(failed())?];
    while let Some(dir) = open.last_mut() {
        let Some(entry) = walk::next(dir).map_err(failed())? else {
            open.pop();
            continue;
        };
        let parent = dir.fd().map_err(failed())?;
        let found = match walk::look(parent, entry.file_name()) {
            Err(Errno::NOENT) => continue,
            found => found.map_err(failed())?,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            count.add(&found);
            continue;
        }
        let inner = match walk::enter(parent, entry.file_name()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            inner => inner.map_err(failed())?,
        };
        count.add(&found);
        if open.len() == MAX_DEPTH {
            return Err(SnapshotError::TooDeep(MAX_DEPTH));
        }
        open.push(Dir::new(inner).map_err(failed())?);
    }
    Ok(count.usage)
}

#[derive(Default)]
struct Count {
    usage: SnapshotUsage,
    /// Files with several names that were counted.
    linked: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, found: &Stat) {
        let is_linked =
            FileType::from_raw_mode(found.st_mode) != FileType::Directory && found.st_nlink > 1;
        if is_linked && !self.linked.insert((found.st_dev, found.st_ino)) {
            return;
        }
        self.usage.inodes += 1;
        // As stat(2) has it.
        self.usage.bytes += u64::try_from(found.st_blocks).unwrap_or_default() * 512;
    }
}
