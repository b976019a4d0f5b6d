//! Reads files that others control: only regular ones, and no more than a limit.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::libc::{O_NOCTTY, O_NONBLOCK, O_PATH};

/// Why a file is not read. The path is for the caller to name.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("is {0}, must be a regular file")]
    NotRegular(&'static str),
    #[error("is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
}

/// The content of a regular file of at most `limit` bytes.
///
/// The path is opened with O_PATH first, so that no driver and no writer of a pipe notices before the file turns out
/// to be a regular one.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let place = OpenOptions::new().read(true).custom_flags(O_PATH).open(path)?;
    let metadata = place.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular(kind(&metadata)));
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    // Some files of the kernel are regular, and reading them waits nevertheless.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(place)?;
    read_to_end(file, metadata.len(), limit)
}

fn read_to_end(file: File, length: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // It may have grown meanwhile.
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(content)
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "text").unwrap();
        assert_eq!(read_regular(&path("file"), 4).unwrap(), b"text");
        assert!(matches!(read_regular(&path("file"), 3), Err(ReadError::TooLarge(3))));
        assert!(matches!(read_regular(&path("none"), 3), Err(ReadError::Io(_))));

        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for (name, kind) in [
            (path("fifo"), "a named pipe"),
            (path("socket"), "a socket"),
            (path(""), "a directory"),
            ("/dev/zero".into(), "a device"),
        ] {
            let error = read_regular(&name, 3).unwrap_err().to_string();
            assert_eq!(error, format!("is {kind}, must be a regular file"));
        }
    }

    #[test]
    fn an_endless_file_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = dir.path().join("sparse");
        File::create(&sparse).unwrap().set_len(6 << 30).unwrap();
        assert!(matches!(read_regular(&sparse, 16 << 20), Err(ReadError::TooLarge(_))));
        // Its size is shown as zero.
        let maps = Path::new("/proc/self/maps");
        assert!(matches!(read_regular(maps, 10), Err(ReadError::TooLarge(10))));
    }
}
