//! Makes a layer of what differs between two trees.

mod header;
mod layer;
mod output;
mod same;
#[cfg(test)]
mod tests;
mod upper;
mod walk;

use std::{
    io::Write,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use layer::Layer;
use rustix::fs::{Mode, OFlags, open};
pub(crate) use upper::{Upper, depends_on_lower};
use walk::Walk;

use crate::{Cancel, Compression, DiffError, Unpacked, error::MAX_DEPTH};

/// How a layer is made.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// How it is compressed.
    pub compression: Compression,
    /// The time of what is gone, in seconds since 1970, and of every file that is younger. Without it what is gone
    /// has the time 0: the same trees make the same layer.
    pub epoch: Option<u64>,
    /// Stops it.
    pub cancel: Cancel,
}

/// Writes the layer that makes the tree in the directory `right` of that in `left`; returns what it is without
/// compression. Names are in order.
///
/// # Errors
/// If a file cannot be read, or the layer cannot be written.
pub fn diff<W: Write + Send>(
    left: &Path,
    right: &Path,
    output: W,
    options: &DiffOptions,
) -> Result<Unpacked, DiffError> {
    let (left, right) = (directory(left)?, directory(right)?);
    output::run(output, options.compression, |archive| {
        let mut layer = Layer::new(archive, &right, options);
        let mut walk = Walk { layer: &mut layer, cancel: &options.cancel };
        walk.directories(Some(&left), &right, &[])?;
        layer.finish()
    })
}

/// The same, of an upper directory that has all differences.
pub(crate) fn diff_upper<W: Write + Send>(
    upper: &Upper,
    output: W,
    options: &DiffOptions,
) -> Result<Unpacked, DiffError> {
    let root = directory(&upper.root)?;
    output::run(output, options.compression, |archive| {
        let mut layer = Layer::new(archive, &root, options);
        match &upper.notes {
            None => {
                let mut walk = Walk { layer: &mut layer, cancel: &options.cancel };
                walk.directories(None, &root, &[])?;
            }
            Some(notes) => upper::write(&mut layer, notes, &root, &[], &options.cancel)?,
        }
        layer.finish()
    })
}

fn directory(path: &Path) -> Result<OwnedFd, DiffError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(DiffError::io("open", path.as_os_str().as_bytes()))
}

/// How deep a directory may lie.
fn check_depth(path: &[u8]) -> Result<(), DiffError> {
    let above = path.iter().filter(|byte| **byte == b'/').count();
    if above < MAX_DEPTH { Ok(()) } else { Err(DiffError::too_deep(path)) }
}

/// A name below a path.
fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') }
}
