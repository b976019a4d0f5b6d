//! The files a shim leaves for a server that is not there at the moment.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{EXIT_FILE, ExitFile, Identity, STARTED_FILE};

/// How long until an exit that there was no room for is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn write_started(identity: &Identity) -> io::Result<()> {
    write(STARTED_FILE, &identity.to_json())
}

/// The exit on disk, or on its way there.
#[derive(Default)]
pub(crate) struct ExitRecord {
    /// What could not be written yet, and when to try again.
    unwritten: Option<(ExitFile, Instant)>,
}

impl ExitRecord {
    /// Writes the exit down, or keeps it until there is room.
    pub(crate) fn write(&mut self, exit: ExitFile) {
        self.unwritten = match write(EXIT_FILE, &exit.to_json()) {
            Ok(()) => None,
            // The directory was removed, so nobody will read the exit.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some((exit, Instant::now() + WRITE_AGAIN)),
        };
    }

    pub(crate) fn write_again(&mut self) {
        if let Some((exit, _)) = self.unwritten.take() {
            self.write(exit);
        }
    }

    pub(crate) fn write_again_at(&self) -> Option<Instant> {
        self.unwritten.map(|(_, time)| time)
    }

    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }
}

/// Whole or not at all: a reader never sees a part of it.
fn write(name: &str, content: &str) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    fs::write(&temporary, content)
        .inspect(|()| reach(Point::ShimFileWritten))
        .and_then(|()| fs::rename(&temporary, name))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}
