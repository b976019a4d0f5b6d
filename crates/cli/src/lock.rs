//! Locks on directories, which end with their holder: flock(2).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// What became of a try to lock a directory.
#[derive(Debug)]
pub(crate) enum Locked {
    /// It is locked until this is dropped.
    Yes(File),
    /// Another command has locked it.
    Busy,
    /// It is not there, or not any more.
    Gone,
}

/// Tries to lock a directory, without waiting for whoever holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Locked> {
    let dir = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
        dir => dir?,
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        result => result?,
    }
    let locked = dir.metadata()?.ino();
    let there = fs::metadata(path).map(|meta| meta.ino());
    Ok(if there.is_ok_and(|ino| ino == locked) { Locked::Yes(dir) } else { Locked::Gone })
}
