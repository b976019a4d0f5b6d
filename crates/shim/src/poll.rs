//! Readiness of the shim's descriptors: one epoll instance, level-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::retry_on_intr;

pub(crate) use rustix::event::epoll::EventFlags;

/// A wait is never longer, since older kernels count milliseconds in 31 bits (epoll_wait(2)).
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A child ended.
    Children,
    /// A server connects.
    Listener,
    /// A server has sent a record, or closed its connection.
    Peers,
    /// The runtime hands over the terminal.
    Console,
    /// Bytes on their way to the process.
    Input,
    /// Bytes on their way from the process's terminal.
    Output,
    /// The logger reports that it is ready, or closes the pipe for that.
    Logger,
}

const SOURCES: [Source; 7] = [
    Source::Children,
    Source::Listener,
    Source::Peers,
    Source::Console,
    Source::Input,
    Source::Output,
    Source::Logger,
];

/// A handle to the one epoll instance.
#[derive(Clone)]
pub(crate) struct Poller(Rc<OwnedFd>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Fails with EPERM for a regular file, which is always ready.
    pub(crate) fn watch(&self, fd: impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&*self.0, fd, data(source), flags)?)
    }

    pub(crate) fn change(
        &self,
        fd: impl AsFd,
        source: Source,
        flags: EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::modify(&*self.0, fd, data(source), flags)?)
    }

    /// Closing a descriptor is enough, unless its open file description has others (epoll(7)).
    pub(crate) fn forget(&self, fd: impl AsFd) {
        let _ = epoll::delete(&*self.0, fd);
    }

    /// Waits until something is ready, or until a time that is named. It may return before, with
    /// nothing. The time is not that of a timer, which takes a descriptor and can fail.
    pub(crate) fn wait(&self, until: Option<Instant>) -> io::Result<Vec<(Source, EventFlags)>> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 8];
        let left = until.map(|time| time.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left.min(LONGEST_WAIT)).ok());
        // Interrupted when the shim is stopped and continued, see signal(7).
        let wait = || epoll::wait(&*self.0, &mut events[..], timeout.as_ref());
        let count = retry_on_intr(wait)?;
        let known = |event: epoll::Event| {
            let index = usize::try_from(event.data.u64()).ok()?;
            Some((*SOURCES.get(index)?, event.flags))
        };
        Ok(events.into_iter().take(count).filter_map(known).collect())
    }
}

fn data(source: Source) -> epoll::EventData {
    epoll::EventData::new_u64(source as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_listed_in_the_order_of_their_numbers() {
        for (index, source) in SOURCES.into_iter().enumerate() {
            assert_eq!(source as usize, index);
        }
    }
}
