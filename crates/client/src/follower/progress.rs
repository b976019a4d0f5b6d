//! How far a daemon has come: up to which event everything has been handled.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use gantry_api::Timestamp;
use tokio::sync::watch;

/// Events end in any order; the watermark is the last one before which none is missing.
#[derive(Debug)]
pub(super) struct Progress {
    pending: Mutex<Pending>,
    watermark: watch::Sender<Timestamp>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Number of the first event in the queue.
    first: u64,
    events: VecDeque<(Timestamp, bool)>,
}

/// An event that is being handled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

impl Progress {
    pub(super) fn new(watermark: watch::Sender<Timestamp>) -> Progress {
        Progress { pending: Mutex::default(), watermark }
    }

    /// Notes an event, in the order of the stream.
    pub(super) fn begin(&self, time: Timestamp) -> Ticket {
        let mut pending = self.lock();
        pending.events.push_back((time, false));
        Ticket(pending.first + pending.events.len() as u64 - 1)
    }

    /// The event was handled.
    pub(super) fn end(&self, Ticket(number): Ticket) {
        let mut pending = self.lock();
        let index = usize::try_from(number - pending.first).unwrap_or(usize::MAX);
        if let Some((_, done)) = pending.events.get_mut(index) {
            *done = true;
        }
        let mut reached = None;
        while let Some((time, true)) = pending.events.front().copied() {
            pending.events.pop_front();
            pending.first += 1;
            reached = Some(time);
        }
        if let Some(time) = reached {
            self.watermark.send_replace(time);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        // Nothing that can panic runs under the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    #[test]
    fn the_watermark_stays_before_what_is_not_done() {
        let (sender, watermark) = watch::channel(at(0));
        let progress = Progress::new(sender);
        let [one, two, three] = [1, 2, 3].map(|s| progress.begin(at(s)));
        progress.end(two);
        assert_eq!(*watermark.borrow(), at(0));
        progress.end(one);
        assert_eq!(*watermark.borrow(), at(2));
        let four = progress.begin(at(4));
        progress.end(four);
        assert_eq!(*watermark.borrow(), at(2));
        progress.end(three);
        assert_eq!(*watermark.borrow(), at(4));
    }
}
