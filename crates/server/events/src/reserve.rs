//! Room on the disk that is kept back for the journal, for when somebody else filled the rest.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;

const FILE: &str = "events.reserve";

/// Some hundreds of events.
const SIZE: i64 = 64 * 1024;

/// A file with blocks of its own and nothing in them.
pub(crate) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// Takes the room if there is any.
    pub(crate) fn new(dir: &Path) -> Self {
        let mut reserve = Self { path: dir.join(FILE), held: false };
        reserve.restore();
        reserve
    }

    /// Gives the room back to the disk; false if there was none held.
    pub(crate) fn release(&mut self) -> bool {
        std::mem::take(&mut self.held) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room again if it is not held. Less than all of it is left to others.
    pub(crate) fn restore(&mut self) {
        if !self.held {
            self.held = allocate(&self.path).is_ok();
            if !self.held {
                // It may have got a part, or be something else; all that matters is to hold none.
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

/// Really allocates: a file that was merely extended has no blocks until it is written to.
fn allocate(path: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(posix_fallocate(&file, 0, SIZE)?)
}
