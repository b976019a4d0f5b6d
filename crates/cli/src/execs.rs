//! Processes of `gantry exec` that may be left in a container of a namespace: the server keeps one that has ended until it
//! is deleted, so each is written down, and a later command deletes it.
//!
//! Each process has a file of its name, on which its `exec` holds a lock for as long as it is there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use gantry_api::containerd::task_types::Status;

use crate::{
    bundles::{base, check_id, make_private},
    failure::Failure,
    lock::{Locked, lock, lock_patiently},
    place::Found,
};

/// What is written down of a process.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    _lock: File,
}

impl Note {
    /// Writes a process down that is to be made.
    pub(crate) fn make(found: &Found, process: &str) -> Result<Note, Failure> {
        let id = &found.record.id;
        check_id(id)?;
        check_id(process)?;
        make_in(&directory(found.containers.namespace(), id), process)
    }

    /// The process is deleted.
    pub(crate) fn remove(self) {
        forget(&self.path);
    }
}

fn make_in(dir: &Path, process: &str) -> Result<Note, Failure> {
    let path = dir.join(process);
    let failed = |e: io::Error| Failure::io(path.display(), &e);
    loop {
        make_private(dir).map_err(failed)?;
        match File::options().create(true).append(true).open(&path) {
            // Another command has just removed the directory.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(failed)?,
        };
        match lock_patiently(&path).map_err(failed)? {
            Locked::Yes(lock) => return Ok(Note { path, _lock: lock }),
            Locked::Gone => {}
            Locked::Busy => {
                let problem = format!("process {process} belongs to another gantry command");
                return Err(Failure::new(problem));
            }
        }
    }
}

/// Deletes those of a container that have ended and that no command waits for. Failing to is no reason to stop.
pub(crate) async fn sweep(found: &Found) {
    let id = &found.record.id;
    let dir = directory(found.containers.namespace(), id);
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(process) = name.to_str() else { continue };
        let Ok(Locked::Yes(_lock)) = lock(&path) else { continue };
        let task = found.process(process);
        let deleted = match task.get().await {
            Ok(Some(process)) if process.status() != Status::Stopped => continue,
            Ok(Some(_)) => task.delete().await,
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        match deleted {
            Ok(()) => forget(&path),
            Err(failure) => failure.warn(),
        }
    }
}

/// A container is removed, and with it all processes.
pub(crate) fn forget_all(namespace: &str, id: &str) {
    for entry in fs::read_dir(directory(namespace, id)).into_iter().flatten().flatten() {
        forget(&entry.path());
    }
}

/// Removes a file, and its directories if they are empty then.
fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("gantry: {}: {error}", path.display());
    }
    for dir in path.ancestors().skip(1).take(2) {
        let _ = fs::remove_dir(dir);
    }
}

fn directory(namespace: &str, id: &str) -> PathBuf {
    base().join("left").join(namespace).join(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_written_down_by_one_command_and_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("namespace/container");
        let note = make_in(&dir, "side").unwrap();
        make_in(&dir, "side").unwrap_err();
        let other = make_in(&dir, "other").unwrap();
        note.remove();
        assert!(dir.join("other").exists());
        make_in(&dir, "side").unwrap().remove();
        other.remove();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
