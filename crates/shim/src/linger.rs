//! Keeps output that nobody has read yet readable after the process's exit.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{fstat, inotify};
use rustix::io::ioctl_fionread;

use crate::poll::{EventFlags, Poller, Source};
use crate::stdio::{OutputPipe, has_reader, own_path};

/// Pipes with unread output and no reader. A pipe forgets its content when the last descriptor is
/// closed, so the writing end is held until somebody opens the pipe for reading, who then reads
/// all of it and the end of file behind it.
pub(crate) struct Lingering {
    pipes: Vec<OwnedFd>,
    inotify: OwnedFd,
}

impl Lingering {
    /// `None` if there is nothing to wait for.
    pub(crate) fn new(pipes: Vec<OutputPipe>, poller: &Poller) -> io::Result<Option<Self>> {
        let writers: io::Result<Vec<OwnedFd>> = pipes.iter().map(OutputPipe::write_end).collect();
        // The shim's own reading ends; two pipes may be one.
        drop(pipes);
        let mut writers = writers?;
        writers.retain(is_unread);
        if writers.is_empty() {
            return Ok(None);
        }
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // Removal shows as a change of the number of links.
        let events = inotify::WatchFlags::OPEN | inotify::WatchFlags::ATTRIB;
        for writer in &writers {
            inotify::add_watch(&inotify, own_path(writer), events)?;
        }
        poller.watch(&inotify, Source::Readers, EventFlags::IN)?;
        // Somebody may have come before the watch.
        let lingering = Self { pipes: writers, inotify };
        Ok(lingering.check())
    }

    /// Lets go of pipes that are being read, or never will be; `None` when none is left.
    #[must_use]
    pub(crate) fn check(mut self) -> Option<Self> {
        // What happened does not matter, only how things are now.
        let _ = rustix::io::read(&self.inotify, &mut [0_u8; 256]);
        self.pipes.retain(is_unread);
        (!self.pipes.is_empty()).then_some(self)
    }
}

fn is_unread(writer: &OwnedFd) -> bool {
    // Nobody can open a pipe that was removed.
    let has_path = fstat(writer).is_ok_and(|stat| stat.st_nlink > 0);
    has_path && !has_reader(writer) && ioctl_fionread(writer).is_ok_and(|bytes| bytes > 0)
}
