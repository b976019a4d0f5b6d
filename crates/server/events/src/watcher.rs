//! Watching the log: the events of the containers of all namespaces in one order, without a trace in the log.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use gantry_domain::{Event, Timestamp};

use crate::{EventLog, From, Shared};

/// Most events that are handed out at once.
const BATCH: usize = 256;

/// A reader of the events of all namespaces that leaves no trace: what it reads does not count as received, and the log
/// keeps nothing for it. It can begin anywhere, and if it is too slow it misses events.
pub struct Watcher {
    log: Arc<Shared>,
    /// For those who measure how far it is behind.
    position: Arc<AtomicU64>,
    after: Timestamp,
    /// Until when the watcher knows that events are missing.
    missing: Timestamp,
}

/// What a watcher reads: something missing, or an event, or both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Some events up to this moment are missing. It is after the last batch, and may be later than `events`.
    pub missing: Option<Timestamp>,
    /// In the order of their times.
    pub events: Vec<Arc<Event>>,
}

impl Watcher {
    /// The time of the last event that was read: a watcher that begins after it goes on where this one is.
    #[must_use]
    pub fn position(&self) -> Timestamp {
        self.after
    }

    /// The next events; waits for them. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Batch {
        let log = Arc::clone(&self.log);
        loop {
            // Made before looking, so that no event falls in between (see tokio's `Notified`).
            let (types, named) = (log.types.appended.notified(), log.named.appended.notified());
            let batch = self.read();
            if batch.missing.is_some() || !batch.events.is_empty() {
                return self.handed(batch);
            }
            tokio::select! {
                () = types => {}
                () = named => {}
            }
        }
    }

    fn read(&self) -> Batch {
        // Both are held at once: no event is read before an earlier one of the other channel.
        let types = self.log.types.ring();
        let named = self.log.named.ring();
        let dropped = types.dropped().max(named.dropped());
        let missing = Some(dropped).filter(|dropped| *dropped > self.after.max(self.missing));
        let mut events: Vec<_> = types.after(self.after).take(BATCH).cloned().collect();
        events.extend(named.after(self.after).take(BATCH).cloned());
        drop((types, named));
        // Two runs that are in order already.
        events.sort_by_key(|event| event.at);
        events.truncate(BATCH);
        Batch { missing, events }
    }

    fn handed(&mut self, batch: Batch) -> Batch {
        self.missing = batch.missing.unwrap_or(self.missing);
        // Without an event there is none after what is missing.
        self.after = batch.events.last().map_or(self.after.max(self.missing), |last| last.at);
        self.position.store(self.after.0, Ordering::Relaxed);
        batch
    }
}

impl EventLog {
    /// Begins to watch all namespaces.
    #[must_use]
    pub fn watch_all(&self, from: From) -> Watcher {
        let after = match from {
            From::After(moment) => moment,
            From::Now => {
                let types = self.shared.types.ring();
                types.last().max(self.shared.named.ring().last())
            }
        };
        let position = self.shared.watchers.begin(after);
        Watcher { log: Arc::clone(&self.shared), position, after, missing: Timestamp(0) }
    }
}

/// How far each watcher has read.
#[derive(Default)]
pub(crate) struct Positions(Mutex<Vec<Weak<AtomicU64>>>);

impl Positions {
    fn begin(&self, at: Timestamp) -> Arc<AtomicU64> {
        let position = Arc::new(AtomicU64::new(at.0));
        let mut positions = self.lock();
        positions.retain(|other| other.strong_count() > 0);
        positions.push(Arc::downgrade(&position));
        position
    }

    /// Of all watchers that there are.
    pub(crate) fn read(&self) -> Vec<Timestamp> {
        let positions = self.lock();
        let living = positions.iter().filter_map(Weak::upgrade);
        living.map(|position| Timestamp(position.load(Ordering::Relaxed))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        // The list is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
