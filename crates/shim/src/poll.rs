//! Readiness of the shim's descriptors: one epoll instance, level-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::retry_on_intr;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

pub(crate) use rustix::event::epoll::EventFlags;

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A child ended.
    Children,
    /// A server connects.
    Listener,
    /// A server says something, or is gone.
    Peers,
    /// The runtime hands over the terminal.
    Console,
    /// Bytes on their way to the process.
    Input,
    /// Bytes on their way from the process's terminal.
    Output,
    /// Somebody opened or removed an output pipe.
    Readers,
    /// Time is up.
    Deadline,
    /// The exit is to be written down again.
    WriteAgain,
}

const SOURCES: [Source; 9] = [
    Source::Children,
    Source::Listener,
    Source::Peers,
    Source::Console,
    Source::Input,
    Source::Output,
    Source::Readers,
    Source::Deadline,
    Source::WriteAgain,
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

    /// Waits until something is ready.
    pub(crate) fn wait(&self) -> io::Result<Vec<(Source, EventFlags)>> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 8];
        // Interrupted when the shim is stopped and continued, see signal(7).
        let count = retry_on_intr(|| epoll::wait(&*self.0, &mut events[..], None))?;
        let known = |event: epoll::Event| {
            let index = usize::try_from(event.data.u64()).ok()?;
            Some((*SOURCES.get(index)?, event.flags))
        };
        Ok(events.into_iter().take(count).filter_map(known).collect())
    }
}

/// A timer that reports `source` once, unless it is closed before.
pub(crate) fn timer(poller: &Poller, source: Source, time: Duration) -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    // Zero would disarm it.
    let time = time.max(Duration::from_nanos(1));
    let value = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
    let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    poller.watch(&timer, source, EventFlags::IN)?;
    Ok(timer)
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
