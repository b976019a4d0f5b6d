//! Keeps output that nobody has read yet readable after the process's exit.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{OFlags, fstat};
use rustix::io::ioctl_fionread;

use crate::poll::{EventFlags, Poller, Source};
use crate::stdio::{OutputPipe, has_reader, own_path, reopen};

/// That a reader comes, or that the pipe is removed, which changes the number of its links.
const COMES: WatchFlags = WatchFlags::OPEN.union(WatchFlags::ATTRIB);

/// That a reader reads or goes. Nothing that [`Unread::settle`] does itself.
const READS: WatchFlags =
    WatchFlags::ACCESS.union(WatchFlags::CLOSE_NOWRITE).union(WatchFlags::ATTRIB);

/// Pipes with unread output. A pipe forgets its content when the last descriptor is closed.
pub(crate) struct Lingering {
    pipes: Vec<Unread>,
    inotify: OwnedFd,
}

/// A pipe with unread output.
enum Unread {
    /// Nobody reads it. It can be opened for reading as long as its writing end is held.
    Alone(OwnedFd),
    /// Somebody does, and finds the end of file behind the output. The reading end is held in case
    /// they go without having read it, as a daemon does that is killed.
    Attended(OwnedFd),
}

impl Lingering {
    /// `None` if there is nothing to wait for.
    pub(crate) fn new(pipes: Vec<OutputPipe>, poller: &Poller) -> io::Result<Option<Self>> {
        let writers: io::Result<Vec<OwnedFd>> = pipes.iter().map(OutputPipe::write_end).collect();
        // The shim's own reading ends.
        drop(pipes);
        let mut writers = writers?;
        writers.retain(is_unread);
        // stdout and stderr may be one.
        writers.dedup_by_key(|writer| fstat(writer).map(|stat| (stat.st_dev, stat.st_ino)).ok());
        if writers.is_empty() {
            return Ok(None);
        }
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        poller.watch(&inotify, Source::Readers, EventFlags::IN)?;
        let pipes = writers.into_iter().map(Unread::Alone).collect();
        Ok(Self { pipes, inotify }.check())
    }

    /// Lets go of pipes that were read, or never will be; `None` when none is left.
    #[must_use]
    pub(crate) fn check(mut self) -> Option<Self> {
        // What happened does not matter, only how things are now.
        while let Ok(1..) = rustix::io::read(&self.inotify, &mut [0_u8; 256]) {}
        // Without descriptors for it, unread output is lost.
        let settle = |pipe: Unread| pipe.settle(&self.inotify).ok().flatten();
        self.pipes = self.pipes.into_iter().filter_map(settle).collect();
        (!self.pipes.is_empty()).then_some(self)
    }
}

impl Unread {
    /// Looks whether somebody reads the pipe, and watches for what can change that.
    fn settle(self, inotify: &OwnedFd) -> io::Result<Option<Self>> {
        let writer = match self {
            Self::Alone(writer) => writer,
            // With a reading end of its own, the shim cannot see whether there is another.
            Self::Attended(reader) => {
                watch(inotify, &reader, WatchFlags::ATTRIB)?;
                reopen(&reader, OFlags::WRONLY | OFlags::NONBLOCK)?
            }
        };
        if !is_unread(&writer) {
            // Whoever has opened the pipe since its last writer left sees this one go.
            return Ok(None);
        }
        loop {
            watch(inotify, &writer, READS)?;
            if has_reader(&writer) {
                let reader = reopen(&writer, OFlags::RDONLY | OFlags::NONBLOCK)?;
                // Another may come while this one is still on its way out, which is told a moment
                // before (fsnotify_close in the kernel's __fput), and is to see a writer go.
                watch(inotify, &reader, READS.union(COMES))?;
                // It may have been read before anybody watched.
                return Ok(is_unread(&writer).then_some(Self::Attended(reader)));
            }
            watch(inotify, &writer, COMES)?;
            if !has_reader(&writer) {
                return Ok(Some(Self::Alone(writer)));
            }
        }
    }
}

/// Watches for these events of a pipe, and for no others any more.
fn watch(inotify: &OwnedFd, pipe: &OwnedFd, events: WatchFlags) -> io::Result<()> {
    inotify::add_watch(inotify, own_path(pipe), events)?;
    Ok(())
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
    fn lingering(path: &Path) -> (Poller, Lingering) {
        let output = crate::stdio::open_output(path.to_str().unwrap(), OFlags::empty()).unwrap();
        File::from(output.writer).write_all(b"words").unwrap();
        let poller = Poller::new().unwrap();
        let lingering = Lingering::new(vec![output.pipe.unwrap()], &poller).unwrap().unwrap();
        (poller, lingering)
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

    /// What the shim does when it is woken.
    fn next(poller: &Poller, lingering: Lingering) -> Option<Lingering> {
        assert_eq!(poller.wait().unwrap(), [(Source::Readers, EventFlags::IN)]);
        lingering.check()
    }

    #[test]
    fn a_reader_that_comes_reads_all_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let (poller, lingering) = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        let reader = open(&path);
        let lingering = next(&poller, lingering).unwrap();
        assert_eq!(read_to_string(&reader).unwrap(), "words");
        assert!(next(&poller, lingering).is_none());
    }

    #[test]
    fn a_reader_that_goes_leaves_the_rest_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let mut first = open(&path);
        let (poller, lingering) = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Attended(_)));
        first.read_exact(&mut [0; 2]).unwrap();
        drop(first);
        let lingering = next(&poller, lingering).unwrap();
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        // It can be opened by one who waits for a writer, too.
        let second = File::open(&path).unwrap();
        let lingering = next(&poller, lingering).unwrap();
        assert_eq!(read_to_string(&second).unwrap(), "rds");
        assert!(next(&poller, lingering).is_none());
    }

    #[test]
    fn nobody_comes_for_a_pipe_that_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(dir.path());
        let (poller, lingering) = lingering(&path);
        assert!(matches!(lingering.pipes[0], Unread::Alone(_)));
        std::fs::remove_file(&path).unwrap();
        assert!(next(&poller, lingering).is_none());
    }
}
