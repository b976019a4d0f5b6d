//! Named pipes between a process and its caller: made, opened without blocking, removed.
//!
//! A reader that opens a pipe before its writer would see the end at once, and a writer cannot open
//! one without a reader. So until the server has opened its ends each pipe is held open by a
//! keeper, a descriptor for both directions (which fifo(7) of Linux allows).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags};
use tokio::net::unix::pipe;

use crate::error::{Error, Result};

/// The standard streams, by their part of a pipe's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) const ALL: [Stream; 3] = [Stream::Stdin, Stream::Stdout, Stream::Stderr];

    fn name(self) -> &'static str {
        match self {
            Stream::Stdin => "stdin",
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// Where a process's pipe for this stream is.
    pub(crate) fn path(self, dir: &Path, process: &str) -> PathBuf {
        dir.join(format!("{process}-{}", self.name()))
    }
}

/// The pipes of a process that is being started. Dropping it removes them.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    made: Vec<PathBuf>,
    keepers: Vec<File>,
}

impl Pipes {
    /// Makes a pipe, replacing one that an earlier life left behind: a new one cannot hold old data.
    pub(crate) fn make(&mut self, path: &Path) -> Result<()> {
        let failed = |e| Error::io("create pipe", path, e);
        let make = || rustix::fs::mkfifoat(CWD, path, Mode::RWXU);
        if let Err(error) = make() {
            let error = io::Error::from(error);
            if error.kind() != io::ErrorKind::AlreadyExists || !is_pipe(path) {
                return Err(failed(error));
            }
            fs::remove_file(path).map_err(failed)?;
            make().map_err(|e| failed(e.into()))?;
        }
        self.made.push(path.to_owned());
        let mut both = File::options();
        both.read(true).write(true).custom_flags(nonblocking());
        self.keepers.push(both.open(path).map_err(|e| Error::io("open pipe", path, e))?);
        Ok(())
    }

    /// The server has opened its ends, so the pipes live without keepers now and stay.
    pub(crate) fn handed_over(mut self) {
        self.made.clear();
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        remove(self.made.drain(..));
    }
}

/// Whether a process has or had pipes in this directory.
pub(crate) fn any_left(dir: &Path, process: &str) -> bool {
    Stream::ALL.iter().any(|stream| stream.path(dir, process).exists())
}

/// Removes a process's pipes; ends that are open stay usable.
pub(crate) fn remove_all(dir: &Path, process: &str) {
    let paths = Stream::ALL.map(|stream| stream.path(dir, process));
    remove(paths.into_iter().filter(|path| is_pipe(path)));
}

fn nonblocking() -> i32 {
    (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed()
}

fn remove(paths: impl Iterator<Item = PathBuf>) {
    for path in paths {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "pipe not removed");
        }
    }
}

pub(crate) fn is_pipe(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Opens the end that reads a process's output.
pub(crate) fn open_reader(path: &Path) -> Result<pipe::Receiver> {
    let opened = pipe::OpenOptions::new().open_receiver(path);
    opened.map_err(|e| Error::io("open pipe for reading", path, e))
}

/// Opens the end that feeds a process's stdin; `None` if nobody reads it any more.
pub(crate) fn open_writer(path: &Path) -> Result<Option<pipe::Sender>> {
    match pipe::OpenOptions::new().open_sender(path) {
        Ok(sender) => Ok(Some(sender)),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(None),
        Err(e) => Err(Error::io("open pipe for writing", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    #[tokio::test]
    async fn a_pipe_is_private_and_removed_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = Stream::Stdout.path(dir.path(), "init");
        let mut pipes = Pipes::default();
        pipes.make(&path).unwrap();
        assert_eq!(path.file_name().unwrap(), "init-stdout");
        assert!(is_pipe(&path));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(pipes);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_reader_sees_the_end_only_after_the_writer_came_and_went() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let mut pipes = Pipes::default();
        pipes.make(&path).unwrap();
        let mut reader = open_reader(&path).unwrap();
        let mut bytes = [0; 8];
        let early = timeout(Duration::from_millis(20), reader.read(&mut bytes)).await;
        assert!(early.is_err(), "the end came before the writer");

        let mut writer = open_writer(&path).unwrap().unwrap();
        pipes.handed_over();
        assert!(path.exists());
        writer.write_all(b"late").await.unwrap();
        drop(writer);
        let mut all = Vec::new();
        timeout(Duration::from_secs(60), reader.read_to_end(&mut all)).await.unwrap().unwrap();
        assert_eq!(all, b"late");
    }

    #[tokio::test]
    async fn a_left_over_pipe_is_replaced_but_never_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let mut old = Pipes::default();
        old.make(&path).unwrap();
        let mut old_writer = open_writer(&path).unwrap().unwrap();
        old_writer.write_all(b"stale").await.unwrap();
        let mut new = Pipes::default();
        new.make(&path).unwrap();
        let reader = open_reader(&path).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(reader.try_read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);

        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        Pipes::default().make(&file).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_stdin_that_nobody_reads_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let mut pipes = Pipes::default();
        pipes.make(&path).unwrap();
        pipes.keepers.clear();
        assert!(open_writer(&path).unwrap().is_none());
    }
}
