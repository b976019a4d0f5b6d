//! Carries bytes from one descriptor to another, no faster than the slower of the two.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, read, write};

use crate::poll::{EventFlags, Poller, Source};

/// The most bytes that a terminal gives at once, and that a writable pipe takes at once (PIPE_BUF).
const BUFFER: usize = 4096;

/// How a step went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This many bytes arrived.
    Moved(usize),
    /// Nothing to read at the moment.
    Starved,
    /// No room to write at the moment.
    Full,
    /// Nothing will ever be read again, and all was written.
    Ended,
    /// Nothing can be written ever again.
    Broken,
}

/// Two descriptors that do not block and the bytes on their way between them.
pub(crate) struct Pump {
    poller: Poller,
    source: Source,
    from: End,
    to: End,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    last: Option<u8>,
    /// Reads whenever it can write, since the source does not report when it is ready.
    eager: bool,
    /// Which end is waited for.
    waits_to_write: bool,
}

struct End {
    fd: OwnedFd,
    /// Regular files and some devices cannot be watched: they are always ready.
    watched: bool,
}

impl Pump {
    pub(crate) fn new(
        poller: &Poller,
        source: Source,
        from: OwnedFd,
        to: OwnedFd,
    ) -> io::Result<Self> {
        let from = End::new(poller, source, from, EventFlags::IN)?;
        // Even without flags, a pipe's writing end reports that its last reader is gone.
        let to = End::new(poller, source, to, EventFlags::empty())?;
        let mut pump = Self {
            poller: poller.clone(),
            source,
            eager: !from.watched,
            from,
            to,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            last: None,
            waits_to_write: false,
        };
        pump.watch()?;
        Ok(pump)
    }

    /// Reads once if nothing is pending, and writes once.
    pub(crate) fn step(&mut self) -> Step {
        let step = self.read_and_write();
        // Does not fail with a working epoll instance.
        let _ = self.watch();
        step
    }

    /// From now on the next step reads even if the source has nothing, to find that out.
    pub(crate) fn hurry(&mut self) {
        self.eager = true;
    }

    /// The last byte that was read.
    pub(crate) fn last(&self) -> Option<u8> {
        self.last
    }

    /// Appends bytes of the shim's own; only when nothing is pending.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.start = 0;
        self.end = bytes.len();
        self.buffer[..bytes.len()].copy_from_slice(bytes);
    }

    /// Discards what is pending and cannot be written. If the destination is a pipe that nobody reads, the rest is
    /// discarded, too, and the pipe, which would report that endlessly, is closed.
    pub(crate) fn lose(&mut self) -> io::Result<()> {
        self.start = self.end;
        if self.to.watched {
            let null = File::options().write(true).open("/dev/null")?;
            self.poller.forget(&self.to.fd);
            self.to = End { fd: null.into(), watched: false };
        }
        self.watch()
    }

    fn read_and_write(&mut self) -> Step {
        if self.start == self.end {
            match read(&self.from.fd, &mut self.buffer[..]) {
                Ok(0) => return Step::Ended,
                Ok(length) => {
                    (self.start, self.end) = (0, length);
                    self.last = Some(self.buffer[length - 1]);
                }
                Err(Errno::AGAIN | Errno::INTR) => return Step::Starved,
                // EIO: a terminal that was hung up.
                Err(_) => return Step::Ended,
            }
        }
        match write(&self.to.fd, &self.buffer[self.start..self.end]) {
            Ok(length) => {
                self.start += length;
                Step::Moved(length)
            }
            Err(Errno::AGAIN | Errno::INTR) => Step::Full,
            Err(_) => Step::Broken,
        }
    }

    /// Waits for whichever end the next step needs, and not for the other.
    fn watch(&mut self) -> io::Result<()> {
        let to_write = self.start < self.end || self.eager;
        if to_write != self.waits_to_write {
            let (read, write) = match to_write {
                true => (EventFlags::empty(), EventFlags::OUT),
                false => (EventFlags::IN, EventFlags::empty()),
            };
            self.from.watch(&self.poller, self.source, read)?;
            self.to.watch(&self.poller, self.source, write)?;
            self.waits_to_write = to_write;
        }
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A terminal's master has other descriptors, so that closing this one is not enough.
        self.poller.forget(&self.from.fd);
        self.poller.forget(&self.to.fd);
    }
}

impl End {
    fn new(poller: &Poller, source: Source, fd: OwnedFd, flags: EventFlags) -> io::Result<Self> {
        match poller.watch(&fd, source, flags) {
            Ok(()) => Ok(Self { fd, watched: true }),
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                Ok(Self { fd, watched: false })
            }
            Err(error) => Err(error),
        }
    }

    fn watch(&self, poller: &Poller, source: Source, flags: EventFlags) -> io::Result<()> {
        if self.watched { poller.change(&self.fd, source, flags) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn pump(from: OwnedFd, to: OwnedFd) -> Pump {
        Pump::new(&Poller::new().unwrap(), Source::Input, from, to).unwrap()
    }

    #[test]
    fn moves_starves_and_ends() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut pump = pump(from, to);
        assert_eq!(pump.step(), Step::Starved);
        write(&source, b"words").unwrap();
        assert_eq!(pump.step(), Step::Moved(5));
        assert_eq!(pump.last(), Some(b's'));
        drop(source);
        assert_eq!(pump.step(), Step::Ended);
        drop(pump);
        assert_eq!(std::io::read_to_string(std::fs::File::from(sink)).unwrap(), "words");
    }

    #[test]
    fn waits_for_room_and_loses_nothing() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let capacity = rustix::pipe::fcntl_getpipe_size(&to).unwrap();
        let mut pump = pump(from, to);
        for _ in 0..capacity / BUFFER {
            write(&source, &[1; BUFFER]).unwrap();
            assert_eq!(pump.step(), Step::Moved(BUFFER));
        }
        write(&source, b"last").unwrap();
        assert_eq!(pump.step(), Step::Full);
        assert_eq!(pump.step(), Step::Full);
        let mut sink = std::fs::File::from(sink);
        sink.read_exact(&mut vec![0; capacity]).unwrap();
        assert_eq!(pump.step(), Step::Moved(4));
        drop(sink);
        std::fs::File::from(source).write_all(b"lost").unwrap();
        assert_eq!(pump.step(), Step::Broken);
    }

    #[test]
    fn waits_only_for_what_it_needs() {
        let ((from, source), (_sink, to)) = (pipe(), pipe());
        let poller = Poller::new().unwrap();
        let mut pump = Pump::new(&poller, Source::Input, from, to).unwrap();
        write(&source, b"words").unwrap();
        assert_eq!(poller.wait(None).unwrap(), [(Source::Input, EventFlags::IN)]);
        assert_eq!(pump.step(), Step::Moved(5));
        pump.hurry();
        assert_eq!(pump.step(), Step::Starved);
        assert_eq!(poller.wait(None).unwrap(), [(Source::Input, EventFlags::OUT)]);
    }

    #[test]
    fn what_nobody_reads_is_lost_and_the_rest_is_read_on() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let poller = Poller::new().unwrap();
        let mut pump = Pump::new(&poller, Source::Output, from, to).unwrap();
        drop(sink);
        write(&source, b"words").unwrap();
        assert_eq!(pump.step(), Step::Broken);
        pump.lose().unwrap();
        // The pipe reports nothing any more.
        assert_eq!(poller.wait(Some(Instant::now())).unwrap(), []);
        write(&source, b"more").unwrap();
        assert_eq!(poller.wait(None).unwrap(), [(Source::Output, EventFlags::IN)]);
        assert_eq!(pump.step(), Step::Moved(4));
        assert_eq!(pump.step(), Step::Starved);
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_lost_until_there_is_room() {
        let (from, source) = pipe();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut pump = pump(from, full.into());
        for _ in 0..2 {
            write(&source, b"words").unwrap();
            assert_eq!(pump.step(), Step::Broken);
            pump.lose().unwrap();
            assert_eq!(pump.step(), Step::Starved);
        }
    }

    #[test]
    fn files_are_always_ready() {
        let (sink, to) = pipe();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"words").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut pump = pump(file.into(), to);
        assert_eq!(pump.step(), Step::Moved(5));
        assert_eq!(pump.step(), Step::Ended);
        drop(pump);
        assert_eq!(std::io::read_to_string(std::fs::File::from(sink)).unwrap(), "words");
    }
}
