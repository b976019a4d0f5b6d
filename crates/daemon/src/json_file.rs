//! JSON files that are there in full or not at all, whatever happens.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// Writes under another name, then renames: a reader, or a start after a power loss, finds the old
/// content or the new one.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let temporary = path.with_extension("json.new");
    replace(&temporary, path, value).map_err(|error| Error::io("write", path, error))
}

fn replace<T: Serialize>(temporary: &Path, path: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    let mut file = File::create(temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename itself lasts once the directory is on the disk.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let read = || -> io::Result<T> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    read().map_err(|error| Error::io("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value.json");
        write(&path, &1).unwrap();
        fs::create_dir(dir.path().join("value.json.new")).unwrap();
        write(&path, &2).unwrap_err();
        assert_eq!(read::<i32>(&path).unwrap(), 1);
    }
}
