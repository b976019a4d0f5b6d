//! What can be measured of the log: how long the journal is, and how far those are behind who read it.

use std::sync::atomic::{AtomicU64, Ordering};

use gantry_domain::Event;

use crate::EventLog;

/// What an event is estimated to take beside the names that it has.
const OVERHEAD: u64 = 256;

/// What is measured of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeasuredEvents {
    /// Bytes of the journal's file.
    pub journal_bytes: u64,
    /// Records in it.
    pub journal_records: u64,
    /// Records that could not be written yet.
    pub unwritten_records: u64,
    /// Of the events of `types.API`.
    pub types: MeasuredSubscribers,
    /// Of the events of named namespaces.
    pub named: MeasuredSubscribers,
    /// Of all events: those that leave no trace in the log.
    pub watchers: MeasuredSubscribers,
}

/// Who reads some kind of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeasuredSubscribers {
    /// How many there are.
    pub count: u64,
    /// How far the slowest one is behind.
    pub slowest: Lag,
}

/// How far a reader is behind: what is in memory and was not handed out to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lag {
    /// Events that it has yet to read.
    pub events: u64,
    /// About so many bytes of memory.
    pub bytes: u64,
}

impl std::ops::Add for Lag {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { events: self.events + other.events, bytes: self.bytes + other.bytes }
    }
}

impl MeasuredSubscribers {
    fn of(lags: impl Iterator<Item = Lag>) -> Self {
        lags.fold(Self::default(), |all, lag| Self {
            count: all.count + 1,
            slowest: all.slowest.max(lag),
        })
    }
}

/// The size of the journal, as its thread has last seen it.
#[derive(Debug, Default)]
pub(crate) struct JournalCounts([AtomicU64; 3]);

impl JournalCounts {
    pub(crate) fn set(&self, size: [u64; 3]) {
        for (count, now) in self.0.iter().zip(size) {
            count.store(now, Ordering::Relaxed);
        }
    }
}

/// About what an event takes in memory; its labels are shared with others.
pub(crate) fn cost(event: &Event) -> u64 {
    let names = event.container.id.as_str().len() + event.container.namespace.name().len();
    OVERHEAD + names as u64
}

impl EventLog {
    /// What is measured of the log now. Takes its locks for moments.
    pub fn measure(&self) -> MeasuredEvents {
        let shared = &self.shared;
        let [journal_bytes, journal_records, unwritten_records] =
            shared.journal.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        let types = MeasuredSubscribers::of(shared.types.ring().lags().map(|(_, lag)| lag));
        let named = {
            let feed = shared.feed();
            let ring = shared.named.ring();
            MeasuredSubscribers::of(ring.lags().map(|(id, lag)| lag + feed.lag(id)))
        };
        let positions = shared.watchers.read();
        let (types_ring, named_ring) = (shared.types.ring(), shared.named.ring());
        let behind = |at| types_ring.lag_after(at) + named_ring.lag_after(at);
        let watchers = MeasuredSubscribers::of(positions.into_iter().map(behind));
        MeasuredEvents { journal_bytes, journal_records, unwritten_records, types, named, watchers }
    }
}
