//! The streams of a process that was left running: where they are, and who may attach to them.

use std::{
    fs::{self, File},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use gantry_client::Process;

use crate::{
    bundles,
    failure::Failure,
    lock::{Locked, lock_patiently},
    pipe_dirs,
};

/// The right to a process's streams, which one command can have at a time: two that read a pipe
/// would each get a part of what is in it. The right ends with this command, however that ends.
#[derive(Debug)]
pub(crate) struct Streams {
    dir: PathBuf,
    _lock: File,
}

impl Streams {
    /// Takes the right to the streams of a process, which are at these paths. Those of a container's first process are in
    /// the container's own directory.
    pub(crate) fn claim(name: &str, own: &Path, paths: [&str; 3]) -> Result<Streams, Failure> {
        let Some(dir) = directory(paths) else {
            return Err(Failure::new(format!(
                "{name} has no streams to attach to: it was started in the background, without -i"
            )));
        };
        if dir != own && !pipe_dirs::is_one(&dir) {
            return Err(Failure::new(format!(
                "{name} was not started by this user's gantry command: who has started it reads \
                 its output, of which attach would take a part away"
            )));
        }
        match lock_patiently(&dir).map_err(|e| Failure::io(dir.display(), &e))? {
            Locked::Yes(lock) => Ok(Streams { dir, _lock: lock }),
            Locked::Busy => Err(Failure::new(format!(
                "another gantry command is attached to {name}, and only one can be"
            ))),
            Locked::Gone => Err(Failure::new(format!("{name} has just ended"))),
        }
    }

    /// Removes the files of a process that has ended, if they are its alone. Whether they are.
    pub(crate) fn clean_up_exec(&self) -> bool {
        let is_own = pipe_dirs::is_one(&self.dir);
        if is_own {
            pipe_dirs::remove(&self.dir);
        }
        is_own
    }

    /// Removes the files that nobody needs after the process's end.
    pub(crate) fn clean_up(self, process: &Process) -> Result<(), Failure> {
        if self.clean_up_exec() {
            return Ok(());
        }
        process.remove_pipes();
        bundles::remove_if_marked(&self.dir)
    }
}

/// The directory of the pipes, if there are any.
fn directory(paths: [&str; 3]) -> Option<PathBuf> {
    let is_pipe = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    paths.into_iter().map(Path::new).find(|path| is_pipe(path))?.parent().map(Path::to_owned)
}
