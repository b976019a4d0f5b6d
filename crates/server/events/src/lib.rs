//! The event log: journalled first, then published to every subscriber, without gap or repeat.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod cursor;
mod filter;
mod journal;
mod older;
pub mod record;
mod recovery;
mod reserve;
mod ring;
mod slot;
mod subscription;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_full_disk;
#[cfg(test)]
mod tests_recovery;
#[cfg(test)]
mod tests_ring;
#[cfg(test)]
mod tests_untold;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gantry_domain::{ContainerKey, Event, EventKind, Generation, Timestamp};
use tokio::sync::Notify;

use self::journal::Journal;
use self::recovery::Recovered;
pub use self::recovery::{JournalError, Recovery};
use self::ring::Ring;
pub use self::subscription::{Lagged, Subscription};
pub use filter::Filter;

/// How many events are remembered at least, however few are replayed: a restarted server asks
/// whether it journalled those of the moment before it died.
const REMEMBERED: usize = 1000;

/// All events, in order. Clones are the same log.
///
/// The newest `max(retain, 1000)` are kept in memory and on disk, and exits that no subscriber has had
/// yet, up to 65,536 of them: one for each process that has ended since somebody listened. What some
/// subscriber has not read is kept in memory too, up to 65,536 events more: one further behind gets
/// [`Lagged`].
///
/// A live event counts as received when its subscriber asks for more; a stored one when the subscriber has
/// read all stored ones and leaves, or thousands more. If a replay breaks off, the events handed out last do
/// not count as received and are replayed again.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

struct Shared {
    /// Taken before `ring`, and held over both steps of an append, so that the journal, the ring
    /// and the timestamps are in the same order.
    writer: Mutex<Writer>,
    /// Held for moments only: a reader never waits for a disk.
    ring: Mutex<Ring>,
    appended: Notify,
    retain: usize,
}

struct Writer {
    journal: Journal,
    last: Timestamp,
    clock: fn() -> Timestamp,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the next event to come.
    Now,
    /// With the first event after this moment, of those that are kept for replay.
    After(Timestamp),
}

/// An event that is to be added.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Whose it is.
    pub container: &'a ContainerKey,
    /// Which of the containers that have had this id.
    pub generation: Generation,
    /// What has happened.
    pub kind: EventKind,
}

/// An event that is in the log now.
#[derive(Debug)]
pub struct Appended {
    /// As it is in the journal.
    pub event: Arc<Event>,
    /// Whether it is in the journal. If not (full disk, say), it is written before the next event for which
    /// there is room, or by [`EventLog::flush`].
    pub durable: bool,
}

impl EventLog {
    /// Opens the journal in `dir`, of which the last `retain` events are for replay.
    pub fn open(dir: &Path, retain: usize) -> Result<(Self, Recovery), JournalError> {
        Self::open_at(dir, retain, now)
    }

    fn open_at(
        dir: &Path,
        retain: usize,
        clock: fn() -> Timestamp,
    ) -> Result<(Self, Recovery), JournalError> {
        let kept = retain.max(REMEMBERED);
        let Recovered { journal, lines, last, recovery } = recovery::open(dir, kept)?;
        let shared = Shared {
            writer: Mutex::new(Writer { journal, last, clock }),
            ring: Mutex::new(Ring::of_earlier(kept, lines)),
            appended: Notify::new(),
            retain,
        };
        Ok((Self(Arc::new(shared)), recovery))
    }

    /// Adds an event: stamps it, writes it to the journal, then shows it to the subscribers.
    pub fn append(
        &self,
        container: &ContainerKey,
        generation: Generation,
        kind: EventKind,
    ) -> Appended {
        self.append_within(NewEvent { container, generation, kind }, |show| show())
    }

    /// As [`Self::append`]; `change` gets a function that publishes the event, which is journalled by then,
    /// so that `change` waits for no disk.
    pub fn append_within(
        &self,
        NewEvent { container, generation, kind }: NewEvent<'_>,
        change: impl FnOnce(&dyn Fn()),
    ) -> Appended {
        let mut writer = self.0.writer();
        let at = writer.stamp();
        let event = Arc::new(Event { at, container: container.clone(), generation, kind });
        let had = self.0.ring().had();
        let durable = writer.journal.append(&event, had);
        change(&|| {
            self.0.ring().push(Arc::clone(&event));
            self.0.appended.notify_waiters();
        });
        if writer.journal.is_long() {
            let lasting = self.0.ring().lasting();
            if writer.journal.compact(&lasting) {
                self.0.ring().is_noted();
            }
        }
        Appended { event, durable }
    }

    /// Writes what could not be journalled before: whether a restarted server will know of every
    /// event now.
    pub fn flush(&self) -> bool {
        self.0.writer().journal.flush()
    }

    /// Whether a remembered event of this generation satisfies `what`, which runs under a lock of the log.
    pub fn recorded(
        &self,
        container: &ContainerKey,
        generation: Generation,
        what: impl Fn(&EventKind) -> bool,
    ) -> bool {
        self.latest(container, generation, |kind| what(kind).then_some(())).is_some()
    }

    /// What the latest such event says. As [`Self::recorded`].
    pub fn latest<T>(
        &self,
        container: &ContainerKey,
        generation: Generation,
        what: impl Fn(&EventKind) -> Option<T>,
    ) -> Option<T> {
        let ring = self.0.ring();
        let newest_first = ring.iter();
        newest_first
            .filter(|event| event.generation == generation && event.container == *container)
            .find_map(|event| what(&event.kind))
    }

    /// Begins to read, for a subscriber that wants those events that match: it reads all events.
    pub fn subscribe(&self, from: From, filter: Filter) -> Subscription {
        let mut ring = self.0.ring();
        let (id, missing) = ring.subscribe(from, self.0.retain, filter);
        Subscription { log: Arc::clone(&self.0), id, stored_end: ring.end(), missing }
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// The time, or the moment after the last event if the clock was set back or stands still.
    fn stamp(&mut self) -> Timestamp {
        self.last = (self.clock)().max(Timestamp(self.last.0 + 1));
        self.last
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
