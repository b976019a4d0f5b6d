//! The one place where lines of the log leave the program.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{form, queue::Queue};
use crate::config::LogFormat;

/// A buffer that has grown beyond this is freed after use.
const KEPT: usize = 64 << 10;

/// The least that a pipe takes once poll(2) says that it takes something: PIPE_BUF.
const PIPE_BUF: usize = 4096;

/// Writes lines, and counts those that could not be written.
pub(super) struct Writer<W> {
    out: W,
    format: LogFormat,
    lost: u64,
    /// The last line was cut.
    torn: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, format: LogFormat) -> Self {
        Self { out, format, lost: 0, torn: false }
    }

    /// Writes whatever comes, for ever.
    pub(super) fn run(mut self, queue: &Queue) {
        let mut lines = Vec::new();
        loop {
            let dropped = queue.take(&mut lines);
            self.write(&lines, dropped);
            if lines.capacity() > KEPT {
                lines = Vec::new();
            }
        }
    }

    /// Writes lines, and how many were dropped after them.
    pub(super) fn write(&mut self, lines: &[u8], dropped: u64) {
        self.report();
        self.lost += self.write_lines(lines);
        self.lost += dropped;
        self.report();
    }

    fn report(&mut self) {
        if self.lost > 0 && self.write_lines(&form::lost(self.format, self.lost)) == 0 {
            self.lost = 0;
        }
    }

    /// How many lines could not be written, or not to their end.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.out.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(1..) if self.torn => break,
                Ok(length @ 1..) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let written = lines.len() - rest.len();
        if written > 0 {
            self.torn = lines[written - 1] != b'\n';
        }
        rest.iter().filter(|byte| **byte == b'\n').count().try_into().unwrap_or(u64::MAX)
    }
}

/// Standard error, without the standard library's lock: a write may never return.
pub(super) struct Stderr {
    stderr: io::Stderr,
    /// How long to wait for room.
    patience: PollTimeout,
}

impl Stderr {
    /// Writes wait for a reader that is slow.
    pub(super) fn waiting() -> Self {
        Self { stderr: io::stderr(), patience: PollTimeout::NONE }
    }

    /// Writes fail where they would have to wait.
    pub(super) fn without_waiting() -> Self {
        Self { stderr: io::stderr(), patience: PollTimeout::ZERO }
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // Also where another process has made it non-blocking.
            let mut fds = [PollFd::new(self.stderr.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, self.patience)? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let waits = self.patience.is_none();
            let length = if waits { bytes.len() } else { bytes.len().min(PIPE_BUF) };
            match nix::unistd::write(&self.stderr, &bytes[..length]) {
                Err(nix::Error::EAGAIN) if waits => {}
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then nothing until there is room again.
    #[derive(Default)]
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= length;
            self.content.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(disk: &Disk) -> Vec<&str> {
        std::str::from_utf8(&disk.content).unwrap().lines().collect()
    }

    #[test]
    fn lost_lines_are_counted_and_reported_once_there_is_room() {
        let mut disk = Disk { room: 8, ..Disk::default() };
        let mut writer = Writer::new(&mut disk, LogFormat::Text);
        writer.write(b"first\nsecond\nthird\n", 5);
        writer.write(b"fourth\n", 0);
        assert_eq!(writer.lost, 8);
        writer.out.room = 1000;
        writer.write(b"fifth\n", 0);
        writer.write(b"sixth\n", 2);
        let lines = written(&disk);
        assert_eq!(lines[..2], ["first", "se"]);
        assert!(lines[2].ends_with("8 lines of the log were lost"), "{lines:?}");
        assert_eq!(lines[3..5], ["fifth", "sixth"]);
        assert!(lines[5].ends_with("2 lines of the log were lost"), "{lines:?}");
        assert_eq!(lines.len(), 6);
    }
}
