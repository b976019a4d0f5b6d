//! The files a shim leaves for a server that is not there at the moment.

use std::fs;
use std::io;

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{EXIT_FILE, ExitFile, Identity, STARTED_FILE};

pub(crate) fn write_started(identity: &Identity) -> io::Result<()> {
    write(STARTED_FILE, &identity.to_json())
}

pub(crate) fn write_exit(exit: &ExitFile) -> io::Result<()> {
    write(EXIT_FILE, &exit.to_json())
}

/// Whole or not at all: a reader never sees a part of it.
fn write(name: &str, content: &str) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    fs::write(&temporary, content)
        .inspect(|()| reach(Point::ShimFileWritten))
        .and_then(|()| fs::rename(&temporary, name))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}
