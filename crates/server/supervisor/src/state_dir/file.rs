//! Files that are there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use gantry_disk::{ReadError, read_regular};
use nix::libc;
use serde::{Serialize, de::DeserializeOwned};

use super::{StateError, error::failed};

pub(super) fn create_private_dirs(path: &Path) -> Result<(), StateError> {
    create_dirs(path, 0o700)
}

pub(super) fn create_dirs(path: &Path, mode: u32) -> Result<(), StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
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

/// Most bytes that are read of what a runtime or a shim wrote. A runtime's message can repeat an
/// argument of 128 KiB, each byte of it in six letters of JSON.
const MAX_TAIL: u64 = 1 << 20;

/// The end of a text file that another program wrote. What is no regular file is an error, as its
/// content may never come; U+FFFD stands for what is not UTF-8.
pub(super) fn read_tail(path: &Path) -> io::Result<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(MAX_TAIL)))?;
    let mut tail = Vec::new();
    file.take(MAX_TAIL).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// Most bytes that are read of a state file: more than the kernel takes of a program's arguments, each
/// byte in six letters of JSON.
const MAX_STATE: u64 = 64 << 20;

/// What is no regular file, or too large, counts as damaged: no server has written it.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let text = read_regular(path, MAX_STATE).map_err(|problem| match problem {
        ReadError::Io(cause) => failed("read", path)(cause),
        problem => StateError::NoState { path: path.to_owned(), problem },
    })?;
    serde_json::from_slice(&text)
        .map_err(|cause| StateError::Damaged { path: path.to_owned(), cause })
}

pub(super) fn write_json(
    path: &Path,
    value: &impl Serialize,
    sync: bool,
) -> Result<(), StateError> {
    let text = serde_json::to_vec(value)
        .map_err(|cause| StateError::Damaged { path: path.to_owned(), cause })?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(&text).map_err(failed("write", &temporary))?;
    if sync {
        file.sync_data().map_err(failed("sync", &temporary))?;
    }
    fs::rename(&temporary, path).map_err(failed("rename", &temporary))
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn state_that_is_no_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("dir")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        File::create(path("large")).unwrap().set_len(300 << 30).unwrap();
        for name in ["fifo", "dir", "endless", "large"] {
            let error = read_json::<u32>(&path(name)).unwrap_err();
            assert_eq!(error.damaged_file(), Some(&*path(name)), "{error}");
            assert!(!error.is_missing() && !error.is_scarce());
        }
        let missing = read_json::<u32>(&path("none")).unwrap_err();
        assert!(missing.is_missing() && missing.damaged_file().is_none());
        fs::write(path("good"), "7").unwrap();
        assert_eq!(read_json::<u32>(&path("good")).unwrap(), 7);
    }

    #[test]
    fn only_the_end_of_a_regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        fs::write(&path, b"one \xff byte").unwrap();
        assert_eq!(read_tail(&path).unwrap(), "one \u{fffd} byte");

        // As large as a runtime that never stops makes it; there is no disk behind it.
        let mut file = File::create(&path).unwrap();
        file.set_len(300 << 30).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"last").unwrap();
        let tail = read_tail(&path).unwrap();
        assert!(tail.len() as u64 == MAX_TAIL && tail.ends_with("last"));

        mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        read_tail(&dir.path().join("fifo")).unwrap_err();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        read_tail(&dir.path().join("link")).unwrap_err();
        read_tail(dir.path()).unwrap_err();
    }
}
