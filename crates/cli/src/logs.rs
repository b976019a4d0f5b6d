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

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

use crate::failure::Failure;

/// How much is read at a time.
const BLOCK: usize = 64 << 10;

/// Makes the file if it is not there, and says where it is.
pub(crate) fn prepare(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |e: io::Error| Failure::io(format!("--log: {}", path.display()), &e);
    // What programs print is for who has started them.
    let file = File::options().append(true).create(true).mode(0o640).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::new(format!("--log: {} is no file", path.display())));
    }
    let path = fs::canonicalize(path).map_err(failed)?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(Failure::new(format!("--log: {} is not UTF-8", path.display()))),
    }
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
        let file = File::open(path).map_err(failed)?;
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
    let length = file.metadata()?.len();
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
        let path = prepare(&dir.path().join("log")).unwrap();
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
        prepare(dir.path()).unwrap_err();
        prepare(Path::new("/dev/null")).unwrap_err();
    }
}
