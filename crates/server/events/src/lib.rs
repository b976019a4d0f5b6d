//! The event log: journalled first, then published to every subscriber, without gap or repeat.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod channel;
mod cursor;
mod ended;
mod filter;
mod follower;
mod journal;
mod json;
mod measures;
mod older;
mod published;
pub mod record;
mod recovery;
mod reserve;
mod ring;
mod slot;
mod subscription;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_follower;
#[cfg(test)]
mod tests_full_disk;
#[cfg(test)]
mod tests_measures;
#[cfg(test)]
mod tests_published;
#[cfg(test)]
mod tests_recovery;
#[cfg(test)]
mod tests_ring;
#[cfg(test)]
mod tests_undelivered;
#[cfg(test)]
mod tests_watcher;
mod watcher;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gantry_domain::{
    ContainerKey, Event, EventKind, Generation, Labels, Namespace, ProcessId, Timestamp,
};
use tokio::sync::{Notify, Semaphore};

use self::channel::Channel;
pub use self::ended::Ended;
use self::filter::Wanted;
pub use self::follower::{Entry, Follower};
use self::measures::JournalCounts;
pub use self::measures::{Lag, MeasuredEvents, MeasuredSubscribers};
use self::published::Feed;
pub use self::published::{MAX_PUBLISHED, Publication, Published, TooLong};
use self::recovery::Recovered;
pub use self::recovery::{JournalError, Recovery};
use self::ring::Ring;
pub use self::subscription::{Lagged, Subscription};
use self::watcher::Positions;
pub use self::watcher::{Batch, Watcher};
use self::writer::Writer;
pub use filter::Filter;

/// How many events are remembered at least, however few are replayed: a restarted server looks up
/// which events its predecessor journalled just before it died.
const REMEMBERED: usize = 1000;

/// Bytes of published events that wait to be written. Whoever publishes more waits for room.
const UNWRITTEN: usize = 16 << 20;

/// All events, in order. Clones are the same log.
///
/// The newest `max(retain, 1000)` are kept in memory and on disk, and up to 65,536 undelivered exits: those of
/// the processes that have ended since there was a subscriber. Events that some subscriber has not read are
/// kept in memory too, up to 65,536 more: a subscriber further behind gets [`Lagged`].
///
/// A live event counts as received when its subscriber asks for more; a stored one when the subscriber has
/// read all stored ones and leaves, or has read thousands more. If a replay breaks off, the events handed out last
/// do not count as received and are replayed again.
///
/// All this holds for the namespace of `types.API`, and separately for all named ones together, whose OOM kills
/// are kept like exits: see [`Follower`]. Events that [clients publish](Self::publish) are delivered only to those
/// who follow at the time. They are journalled, and dropped when the journal is compacted.
///
/// Calls that change the log wait for its disk; readers never do. A change is made even if its future is dropped.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
    /// Does both steps of an append, so that the journal, the channels and the timestamps are in the same order.
    writer: Writer,
    /// Bounds what clients have published and what is not written yet.
    room: Arc<Semaphore>,
}

struct Shared {
    types: Channel,
    named: Channel,
    /// Taken before that of `named`.
    feed: Mutex<Feed>,
    /// An event was received that the journal does not note as received yet.
    received: Notify,
    retain: usize,
    journal: JournalCounts,
    watchers: Positions,
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
pub struct NewEvent {
    /// Whose it is.
    pub container: ContainerKey,
    /// Distinguishes containers that have used this id.
    pub generation: Generation,
    /// Of the container, as they were when it was created.
    pub labels: Labels,
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
        let Recovered { journal, mut lines, last, recovery } = recovery::open(dir, kept)?;
        let events = std::mem::take(&mut lines.events).into_iter();
        let (types, named) = events.partition(|event| event.container.namespace.is_types_api());
        let shared = Arc::new(Shared {
            types: Channel::new(Ring::of_earlier(kept, types, &lines, lines.gone)),
            named: Channel::new(Ring::of_earlier(kept, named, &lines, lines.gone_named)),
            feed: Mutex::default(),
            received: Notify::new(),
            retain,
            journal: JournalCounts::default(),
            watchers: Positions::default(),
        });
        let writer = Writer::start(Arc::clone(&shared), dir, journal, last, clock)?;
        Ok((Self { shared, writer, room: Arc::new(Semaphore::new(UNWRITTEN)) }, recovery))
    }

    /// Adds an event: stamps it, writes it to the journal, then shows it to the subscribers.
    pub async fn append(&self, new: NewEvent) -> Appended {
        self.append_within(new, |show| show()).await
    }

    /// As [`Self::append`]; `change` gets a function that publishes the event, which is journalled by then.
    /// `change` runs on the thread that writes the journal, and must not wait for anything.
    pub async fn append_within(
        &self,
        new: NewEvent,
        change: impl FnOnce(&dyn Fn()) + Send + 'static,
    ) -> Appended {
        self.writer.append(new, Box::new(change)).await
    }

    /// Publishes an event to those who follow, in the order of all events.
    ///
    /// # Errors
    /// It is too long.
    pub async fn publish(&self, publication: Publication) -> Result<(), TooLong> {
        let room = u32::try_from(publication.check()?).unwrap_or(u32::MAX);
        // Nobody closes it.
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(room).await {
            self.writer.publish(publication, room).await;
        }
        Ok(())
    }

    /// The exit of this process need not be delivered any more, and is kept for no follower: its caller has deleted
    /// the process. The event of a whole container's deletion does this for all its processes.
    pub async fn mark_obsolete(
        &self,
        container: &ContainerKey,
        generation: Generation,
        process: &ProcessId,
    ) {
        let is_exit = |event: &Event| match &event.kind {
            EventKind::Exited { process: of, .. } => {
                of == process && event.generation == generation && event.container == *container
            }
            _ => false,
        };
        let obsolete = self.shared.channel(&container.namespace).ring().mark_obsolete(is_exit);
        self.note(obsolete).await;
    }

    /// As [`Self::mark_obsolete`], for all processes of all named namespaces: their containers are gone.
    pub async fn mark_named_obsolete(&self) {
        let obsolete = self.shared.named.ring().mark_obsolete(|_| true);
        self.note(obsolete).await;
    }

    async fn note(&self, delivered: Vec<Timestamp>) {
        if !delivered.is_empty() {
            self.writer.note(delivered).await;
        }
    }

    /// Writes what could not be journalled before. Whether every event is in the journal then.
    pub async fn flush(&self) -> bool {
        self.writer.flush().await
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

    /// What the latest such event says; see [`Self::recorded`].
    pub fn latest<T>(
        &self,
        container: &ContainerKey,
        generation: Generation,
        what: impl Fn(&EventKind) -> Option<T>,
    ) -> Option<T> {
        let ring = self.shared.channel(&container.namespace).ring();
        let newest_first = ring.iter();
        newest_first
            .filter(|event| event.generation == generation && event.container == *container)
            .find_map(|event| what(&event.kind))
    }

    /// Begins to read, for a subscriber that wants those events that match: it reads all events.
    pub fn subscribe(&self, from: From, filter: Filter) -> Subscription {
        self.begin(from, filter.namespace.clone(), filter.into())
    }

    /// As [`Self::subscribe`], for somebody who only watches: nothing that is read counts as received, so that those
    /// who depend on events get each exit whoever else has seen it.
    pub fn watch(&self, from: From, namespace: Namespace) -> Subscription {
        self.begin(from, namespace, Wanted::Nothing)
    }

    fn begin(&self, from: From, namespace: Namespace, wanted: Wanted) -> Subscription {
        let mut ring = self.shared.channel(&namespace).ring();
        let (id, missing) = ring.subscribe(from, self.shared.retain, wanted);
        let stored_end = ring.end();
        Subscription { log: Arc::clone(&self.shared), namespace, id, stored_end, missing }
    }
}

impl Shared {
    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, namespace: &Namespace) -> &Channel {
        if namespace.is_types_api() { &self.types } else { &self.named }
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
