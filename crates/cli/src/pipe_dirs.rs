//! Where the pipes of processes are that `gantry exec` has started, and who may remove them.
//!
//! Each process has a directory, on which its `exec` holds a lock for as long as it is there. One
//! that was left running keeps its directory, for `gantry attach`; that removes it at the
//! process's end, or else a later command that finds the process ended.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

use crate::{
    bundles::{base, make_private},
    failure::Failure,
    lock::{Locked, lock, lock_patiently},
};

/// A private directory for the pipes of one process, removed when dropped.
#[derive(Debug)]
pub(crate) struct PipeDir {
    path: PathBuf,
    _lock: File,
}

impl PipeDir {
    pub(crate) fn make(name: &str) -> Result<PipeDir, Failure> {
        let path = base().join("exec").join(name);
        let failed = |e: io::Error| Failure::io(path.display(), &e);
        loop {
            make_private(&path).map_err(failed)?;
            match lock_patiently(&path).map_err(failed)? {
                Locked::Yes(lock) => return Ok(PipeDir { path, _lock: lock }),
                // Another command's sweep was faster.
                Locked::Gone => {}
                Locked::Busy => {
                    let problem = format!("{}: used by another command", path.display());
                    return Err(Failure::new(problem));
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The process goes on, so the directory stays.
    pub(crate) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for PipeDir {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            remove(&self.path);
        }
    }
}

/// Removes such a directory.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("gantry: {}: {error}", path.display());
    }
}

/// Whether a directory is one of these.
pub(crate) fn is_one(path: &Path) -> bool {
    path.parent() == Some(&base().join("exec"))
}

/// Removes the directories of processes that have ended. Failing to is no reason to stop.
pub(crate) fn sweep() {
    for entry in fs::read_dir(base().join("exec")).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(Locked::Yes(_lock)) = lock(&path)
            && !is_used(&path)
        {
            remove(&path);
        }
    }
}

/// Whether a pipe in a directory is open: for as long as the process lives, or has left output that
/// may still be read, its shim holds both ends of each.
fn is_used(dir: &Path) -> bool {
    let has_reader = |path: PathBuf| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        !matches!(open(path, flags, Mode::empty()), Err(rustix::io::Errno::NXIO))
    };
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| has_reader(entry.path()))
}
