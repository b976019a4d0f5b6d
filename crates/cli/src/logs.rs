//! Files with what processes in the background have written: `gantry run -d --log FILE`.
//!
//! The process itself has the file open for appending (or its shim, with a terminal): the server is not involved, may be
//! restarted, and a file that somebody else truncates is written from its beginning.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        OFlags,
        inotify::{self, CreateFlags, WatchFlags},
    },
    io::Errno,
};
use tokio::net::unix::pipe;

use crate::failure::Failure;

/// How much is read at a time.
const BLOCK: usize = 64 << 10;

/// A file for the output of a container that is about to be started. One that was made for this goes again if it is
/// dropped before anything has started, unless the runtime has written to it why.
#[derive(Debug)]
pub(crate) struct Prepared {
    path: PathBuf,
    is_unused: bool,
}

impl Prepared {
    /// Makes the file if it is not there.
    pub(crate) fn new(path: &Path) -> Result<Prepared, Failure> {
        let failed = |e: io::Error| Failure::io(format!("--log: {}", path.display()), &e);
        let bad = |problem: &str| Failure::new(format!("--log: {} {problem}", path.display()));
        let mut options = File::options();
        // What programs print is for who has started them.
        options.append(true).mode(0o640).custom_flags(nonblocking());
        let (opened, is_unused) = match options.create_new(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                (options.create_new(false).create(true).open(path), false)
            }
            opened => (opened, true),
        };
        let file = match opened {
            // A pipe that nobody reads, or a socket.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NXIO) => {
                return Err(bad("is no file"));
            }
            opened => opened.map_err(failed)?,
        };
        let mut prepared = Prepared { path: path.to_owned(), is_unused };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(bad("is no file"));
        }
        prepared.path = fs::canonicalize(path).map_err(failed)?;
        match prepared.path.to_str() {
            Some(_) => Ok(prepared),
            None => Err(bad("is not UTF-8")),
        }
    }

    /// Absolute, and UTF-8.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Something has started that writes to it.
    pub(crate) fn keep(mut self) {
        self.is_unused = false;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let is_empty = || fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.len() == 0);
        if self.is_unused && is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A pipe, which is no log, would hold an open until somebody has the other end.
fn nonblocking() -> i32 {
    // The flags are bits.
    OFlags::NONBLOCK.bits().cast_signed()
}

/// A log that is read, and may grow meanwhile.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    position: u64,
}

impl Log {
    /// From the beginning, or with the last lines only.
    pub(crate) fn open(path: &Path, tail: Option<u64>) -> Result<Log, Failure> {
        let failed = |e: io::Error| Failure::io(path.display(), &e);
        let mut options = File::options();
        let file = options.read(true).custom_flags(nonblocking()).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Failure::new(format!("{} is no file", path.display())));
        }
        let position = match tail {
            None => 0,
            Some(lines) => beginning(&file, lines).map_err(failed)?,
        };
        Ok(Log { path: path.to_owned(), file, position })
    }

    /// Hands on everything that is there by now.
    pub(crate) fn read(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = self.path.clone();
        let failed = |e: io::Error| Failure::io(path.display(), &e);
        let length = self.file.metadata().map_err(failed)?.len();
        if length < self.position {
            self.position = 0;
        }
        let mut buffer = vec![0; BLOCK];
        // No further than to where it ended: a process that writes quickly would keep us here.
        while self.position < length {
            self.file.seek(SeekFrom::Start(self.position)).map_err(failed)?;
            let count = self.file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            take(&buffer[..count])?;
            self.position += count as u64;
        }
        Ok(())
    }

    /// Tells of changes from now on.
    pub(crate) fn watch(&self) -> Result<Changes, Failure> {
        let watch = || -> io::Result<Changes> {
            let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&queue, &self.path, WatchFlags::MODIFY)?;
            // Read as a pipe is: what matters is that there is something.
            pipe::Receiver::from_file_unchecked(queue.into()).map(Changes)
        };
        watch().map_err(|e| Failure::io(format!("watch {}", self.path.display()), &e))
    }
}

/// Changes of a file.
#[derive(Debug)]
pub(crate) struct Changes(pipe::Receiver);

impl Changes {
    /// Waits for one, and takes all that there are.
    pub(crate) async fn next(&mut self) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::io("watch the log", &e);
        let mut events = [0; 4096];
        self.0.readable().await.map_err(failed)?;
        loop {
            match self.0.try_read(&mut events) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Where the last lines begin. A line that has not ended yet is one.
fn beginning(file: &File, lines: u64) -> io::Result<u64> {
    loop {
        match beginning_within(file, file.metadata()?.len(), lines) {
            // It was truncated meanwhile.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            found => return found,
        }
    }
}

fn beginning_within(file: &File, length: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let mut missing = lines;
    let mut end = length;
    let mut buffer = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        // Less than a block.
        let block = &mut buffer[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(block, start)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let after = start + index as u64 + 1;
            if *byte != b'\n' || after == length {
                continue;
            }
            missing -= 1;
            if missing == 0 {
                return Ok(after);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(log: &mut Log) -> String {
        let mut text = Vec::new();
        log.read(|part| {
            text.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_last_lines_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let of = |content: &str, tail: u64| {
            fs::write(&path, content).unwrap();
            text(&mut Log::open(&path, Some(tail)).unwrap())
        };
        assert_eq!(of("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(of("a\nb\nc", 2), "b\nc");
        assert_eq!(of("a\nb\n", 9), "a\nb\n");
        assert_eq!(of("a\nb\n", 0), "");
        assert_eq!(of("a", 0), "");
        assert_eq!(of("", 3), "");
        assert_eq!(of("\n\n\n", 1), "\n");
        let long: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
        assert_eq!(of(&long, 40_000).lines().next(), Some("line 10000"));
    }

    #[tokio::test]
    async fn what_is_written_later_is_read_later() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = Prepared::new(&dir.path().join("log")).unwrap();
        let path = prepared.path().to_owned();
        prepared.keep();
        let mut file = File::options().append(true).open(&path).unwrap();
        let mut log = Log::open(&path, None).unwrap();
        let mut changes = log.watch().unwrap();
        assert_eq!(text(&mut log), "");
        file.write_all(b"first\n").unwrap();
        changes.next().await.unwrap();
        assert_eq!(text(&mut log), "first\n");
        file.set_len(0).unwrap();
        changes.next().await.unwrap();
        assert_eq!(text(&mut log), "");
        file.write_all(b"a").unwrap();
        assert_eq!(text(&mut log), "a");
    }

    #[test]
    fn what_is_no_file_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        Prepared::new(dir.path()).unwrap_err();
        Prepared::new(Path::new("/dev/null")).unwrap_err();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(Prepared::new(&pipe).unwrap_err().to_string().ends_with("is no file"));
        Log::open(&pipe, None).unwrap_err();
        // With somebody at the other end, too.
        let _reader = File::options().read(true).write(true).open(&pipe).unwrap();
        assert!(Prepared::new(&pipe).unwrap_err().to_string().ends_with("is no file"));
        assert!(pipe.exists());
    }

    #[test]
    fn a_file_of_which_nothing_came_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        drop(Prepared::new(&path).unwrap());
        assert!(!path.exists());
        Prepared::new(&path).unwrap().keep();
        drop(Prepared::new(&path).unwrap());
        assert!(path.exists());
    }
}
