//! Keeps output that nobody has read yet readable after the process's exit.
//!
//! Only inotify reports that somebody opens a pipe for reading, and a user has 128 instances by default,
//! fewer than containers can end at once. So a lingering shim polls: a reader finds the output at once, and
//! end of file a moment later.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fstat};
use rustix::io::ioctl_fionread;

use crate::stdio::{OutputPipe, has_reader, reopen};

/// The pause before the first check after a change; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause: so long a reader may wait for the end of the output.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Pipes with unread output. A pipe forgets its content when the last descriptor is closed.
pub(crate) struct Lingering {
    pipes: Vec<Unread>,
    pause: Duration,
    next_check: Instant,
}

/// A pipe with unread output.
enum Unread {
    /// Nobody reads it. It can be opened for reading as long as its writing end is held.
    Alone(OwnedFd),
    /// Somebody reads it, and finds the end of file after the output. The reading end is held in case
    /// the reader goes without having read everything, as a daemon does that is killed.
    Attended(OwnedFd),
}

impl Lingering {
    /// `None` if there is nothing to wait for.
    pub(crate) fn new(pipes: Vec<OutputPipe>) -> Option<Self> {
        let mut pipes: Vec<OwnedFd> = pipes.into_iter().map(OutputPipe::into_both_ends).collect();
        // stdout and stderr may be one.
        pipes.dedup_by_key(|pipe| fstat(pipe).map(|stat| (stat.st_dev, stat.st_ino)).ok());
        let pipes = pipes.into_iter().map(Unread::Attended).collect();
        Self { pipes, pause: FIRST_PAUSE, next_check: Instant::now() }.check()
    }

    /// When to check again.
    pub(crate) fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Closes pipes that were read, or never will be; `None` when none is left.
    #[must_use]
    pub(crate) fn check(mut self) -> Option<Self> {
        let attended = |pipes: &[Unread]| -> Vec<bool> {
            pipes.iter().map(|pipe| matches!(pipe, Unread::Attended(_))).collect()
        };
        let before = attended(&self.pipes);
        self.pipes = self.pipes.into_iter().filter_map(Unread::updated).collect();
        let unchanged = attended(&self.pipes) == before;
        self.pause = if unchanged { LONGEST_PAUSE.min(self.pause * 2) } else { FIRST_PAUSE };
        self.next_check = Instant::now() + self.pause;
        (!self.pipes.is_empty()).then_some(self)
    }
}

impl Unread {
    /// Checks whether somebody reads the pipe. If there is no descriptor for that, nothing changes.
    fn updated(self) -> Option<Self> {
        let writer = match self {
            Self::Alone(writer) => writer,
            // With a reading end of its own, the shim cannot see whether there is another.
            Self::Attended(reader) => match reopen(&reader, OFlags::WRONLY | OFlags::NONBLOCK) {
                Ok(writer) => writer,
                Err(_) => return Some(Self::Attended(reader)),
            },
        };
        if !is_unread(&writer) {
            // Closing this writer is the end of file for readers that opened the pipe meanwhile.
            return None;
        }
        if !has_reader(&writer) {
            return Some(Self::Alone(writer));
        }
        match reopen(&writer, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(reader) => Some(Self::Attended(reader)),
            Err(_) => Some(Self::Alone(writer)),
        }
    }
}

fn is_unread(pipe: &OwnedFd) -> bool {
    // Nobody can open a pipe that was removed.
    let has_path = fstat(pipe).is_ok_and(|stat| stat.st_nlink > 0);
    has_path && ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _, read_to_string};
    use std::path::Path;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A pipe with "words" in it, of a process that has ended.
    fn lingering(path: &Path) -> Lingering {
        let output = crate::stdio::open_output(path.to_str().unwrap(), OFlags::empty()).unwrap();
        File::from(output.writer).write_all(b"words").unwrap();
        Lingering::new(vec![output.pipe.unwrap()]).unwrap()
    }

    fn pipe(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("stdout");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    fn open(path: &Path) -> File {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        rustix::fs::open(path, flags, Mode::empty()).unwrap().into()
    }

    #[test]
    fn a_reader_that_comes_reads_all_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let lingering = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        let reader = open(&path);
        let lingering = lingering.check().unwrap();
        assert_eq!(read_to_string(&reader).unwrap(), "words");
        assert!(lingering.check().is_none());
    }

    #[test]
    fn a_reader_that_goes_leaves_the_rest_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let mut first = open(&path);
        let lingering = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Attended(_)));
        first.read_exact(&mut [0; 2]).unwrap();
        drop(first);
        let lingering = lingering.check().unwrap();
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        // A reader that waits for a writer can open it, too.
        let second = File::open(&path).unwrap();
        let lingering = lingering.check().unwrap();
        assert_eq!(read_to_string(&second).unwrap(), "rds");
        assert!(lingering.check().is_none());
    }

    #[test]
    fn nobody_comes_for_a_pipe_that_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let lingering = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        std::fs::remove_file(&path).unwrap();
        assert!(lingering.check().is_none());
    }

    #[test]
    fn it_checks_less_often_while_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let mut lingering = lingering(&path);
        for _ in 0..10 {
            lingering = lingering.check().unwrap();
        }
        assert_eq!(lingering.pause, LONGEST_PAUSE);
        let _reader = open(&path);
        lingering = lingering.check().unwrap();
        assert_eq!(lingering.pause, FIRST_PAUSE);
    }

    #[test]
    fn two_streams_may_be_one_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let open_pipe =
            || crate::stdio::open_output(path.to_str().unwrap(), OFlags::empty()).unwrap();
        let (first, second) = (open_pipe(), open_pipe());
        File::from(first.writer).write_all(b"words").unwrap();
        drop(second.writer);
        let lingering = Lingering::new(vec![first.pipe.unwrap(), second.pipe.unwrap()]).unwrap();
        assert!(matches!(lingering.pipes[..], [Unread::Alone(_)]));
    }
}
