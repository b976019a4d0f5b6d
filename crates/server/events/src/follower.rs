//! Following the events of all named namespaces, of containers and published ones, in one order.

use std::{sync::Arc, time::Duration};

use gantry_domain::{Event, Timestamp};

use crate::{
    EventLog, Shared, filter::Wanted, published::Published, ring::SubscriptionId,
    subscription::Lagged,
};

/// How long an event may be on its way to the kernel's socket buffer after its follower has asked for the next.
/// Only then is the event journalled as received: one that comes twice does less harm than one that never comes.
const UNDER_WAY: Duration = Duration::from_millis(20);

/// An event as a follower gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Of a container.
    Container(Arc<Event>),
    /// Of somebody who has published it.
    Published(Arc<Published>),
}

impl Entry {
    /// When it was added to the log.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Container(event) => event.at,
            Self::Published(published) => published.at,
        }
    }
}

/// A reader of all named namespaces. It gets the exits and OOM kills that no follower has received, unless
/// the task or process was deleted; then every event to come, in order, once.
///
/// An event counts as received when its follower asks for more.
pub struct Follower {
    log: Arc<Shared>,
    id: SubscriptionId,
}

impl Follower {
    /// The next events, one at least; waits for them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Some were missed; the follower can read on. Exits and OOM kills among them wait for the next follower.
    pub async fn next(&mut self) -> Result<Vec<Entry>, Lagged> {
        loop {
            // Made before looking, so that no event falls in between (see tokio's `Notified`).
            let appended = self.log.named.appended.notified();
            let batch = self.read()?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            appended.await;
        }
    }

    fn read(&self) -> Result<Vec<Entry>, Lagged> {
        // Held over both, so that no event is read before an earlier one of the other kind.
        let mut feed = self.log.feed();
        // Before the ring is read: events that it hands out would be lost with an error.
        feed.check(self.id)?;
        let mut ring = self.log.named.ring();
        let events = ring.read(self.id, u64::MAX);
        if !ring.received().is_empty() {
            self.log.received.notify_one();
        }
        drop(ring);
        let events = events?;
        let published = feed.read(self.id, events.last().map(|last| last.at));
        let mut batch: Vec<_> = events.into_iter().map(Entry::Container).collect();
        batch.extend(published.into_iter().map(Entry::Published));
        // Two runs that are in order already.
        batch.sort_by_key(Entry::at);
        Ok(batch)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.log.feed().unsubscribe(self.id);
        self.log.named.ring().unsubscribe(self.id);
    }
}

impl EventLog {
    /// Begins to follow all named namespaces, for a subscriber that wants those events of containers that
    /// match. `matches` is asked under a lock of the log, about exits and OOM kills only: the others do not
    /// count as received. The follower itself reads all events.
    pub fn follow(&self, matches: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Follower {
        self.follower(Wanted::Matching(Arc::new(matches)))
    }

    /// As [`Self::follow`], for somebody who only watches: nothing that is read counts as received.
    pub fn watch_named(&self) -> Follower {
        self.follower(Wanted::Nothing)
    }

    fn follower(&self, wanted: Wanted) -> Follower {
        let mut feed = self.shared.feed();
        let id = self.shared.named.ring().subscribe_undelivered(wanted);
        feed.subscribe(id);
        Follower { log: Arc::clone(&self.shared), id }
    }

    /// Notes in the journal what followers have received, for as long as this future is polled: a restarted server
    /// does not deliver it again. To be run once, by a server that may write the journal.
    pub async fn note_receipts(&self) {
        loop {
            self.shared.received.notified().await;
            let received = std::mem::take(self.shared.named.ring().received());
            tokio::time::sleep(UNDER_WAY).await;
            self.note(received).await;
        }
    }
}
