//! The upper directory of an overlay, which has all that differs from the layers below.

use std::{os::fd::OwnedFd, path::PathBuf};

use rustix::fs::{FileType, Stat};

use super::{
    below, check_depth, directory,
    layer::{Layer, open_directory},
    same::attribute,
    walk::{look, sorted},
};
use crate::{Cancel, DiffError, apply::kind};

/// A directory that has all that differs.
#[derive(Debug)]
pub(crate) struct Upper {
    pub(crate) root: PathBuf,
    /// Of an overlay: how the names begin of the attributes in which it has its notes.
    pub(crate) notes: Option<&'static str>,
}

/// Whether a file of the directory is found in the layers below, by its overlay's notes.
pub(crate) fn depends_on_lower(upper: &Upper, cancel: &Cancel) -> Result<bool, DiffError> {
    match upper.notes {
        None => Ok(false),
        Some(notes) => has_references(&directory(&upper.root)?, notes, b"", cancel),
    }
}

fn has_references(
    parent: &OwnedFd,
    notes: &str,
    path: &[u8],
    cancel: &Cancel,
) -> Result<bool, DiffError> {
    check_depth(path)?;
    for name in sorted(parent, path)? {
        cancel.check()?;
        let path = below(path, &name);
        let Some(stat) = look(parent, &name, &path)? else { continue };
        let failed = || DiffError::io("read the attributes of", &path);
        let note = match kind(&stat) {
            FileType::RegularFile => "metacopy",
            FileType::Directory => "redirect",
            _ => continue,
        };
        if attribute(parent, &name, &format!("{notes}{note}")).map_err(failed())?.is_some() {
            return Ok(true);
        }
        if kind(&stat) == FileType::Directory {
            let opened = open_directory(parent, &name).map_err(DiffError::io("open", &path))?;
            if has_references(&opened, notes, &path, cancel)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Writes all of a directory.
pub(super) fn write(
    layer: &mut Layer<'_>,
    notes: &str,
    parent: &OwnedFd,
    path: &[u8],
    cancel: &Cancel,
) -> Result<(), DiffError> {
    check_depth(path)?;
    for name in sorted(parent, path)? {
        cancel.check()?;
        let inner = below(path, &name);
        let Some(stat) = look(parent, &name, &inner)? else { continue };
        if is_whiteout(&stat) {
            layer.gone(path, &name)?;
            continue;
        }
        layer.add(&inner, parent, &name, &stat)?;
        if kind(&stat) == FileType::Directory {
            let opaque = attribute(parent, &name, &format!("{notes}opaque"));
            let opaque = opaque.map_err(DiffError::io("read the attributes of", &inner))?;
            if opaque.as_deref() == Some(b"y") {
                layer.opaque(&inner)?;
            }
            let opened = open_directory(parent, &name).map_err(DiffError::io("open", &inner))?;
            write(layer, notes, &opened, &inner, cancel)?;
        }
    }
    Ok(())
}

/// Overlays have these where a name of the layers below is gone.
fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}
