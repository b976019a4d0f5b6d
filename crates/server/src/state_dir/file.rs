//! Files that are there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{StateError, error::failed};

pub(super) fn create_private_dirs(path: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create directory", path))
}

/// Fails if it exists.
pub(super) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

pub(super) fn list(path: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("list", path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let text = fs::read(path).map_err(failed("read", path))?;
    serde_json::from_slice(&text)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

pub(super) fn write_json(
    path: &Path,
    value: &impl Serialize,
    sync: bool,
) -> Result<(), StateError> {
    let text = serde_json::to_vec(value)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source })?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(&text).map_err(failed("write", &temporary))?;
    if sync {
        file.sync_data().map_err(failed("sync", &temporary))?;
    }
    fs::rename(&temporary, path).map_err(failed("rename", &temporary))
}
