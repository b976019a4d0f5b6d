//! Reading the log: stored events and live ones through one and the same cursor.

use std::sync::Arc;

use gantry_domain::{Event, Namespace, Timestamp};

use crate::{Shared, channel::Channel, ring::SubscriptionId};

/// A reader of the log: it gets every event after the place where it began, in order, once. They are those of
/// the namespace of `types.API`, or those of all others.
pub struct Subscription {
    pub(crate) log: Arc<Shared>,
    /// One of those whose events it reads.
    pub(crate) namespace: Namespace,
    pub(crate) id: SubscriptionId,
    /// Where the log ended when the subscription began.
    pub(crate) stored_end: u64,
    /// The time of the last event that should be among the stored ones, and is not kept any more.
    pub(crate) missing: Option<Timestamp>,
}

/// The subscriber was so slow that events were dropped. It gets this error once in place of the missing
/// events, and can then read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
#[error("too far behind: events were missed, the next is the first after {} ns", resume_after.0)]
pub struct Lagged {
    /// The last event that was missed.
    pub resume_after: Timestamp,
    /// Stored events were missed, and perhaps live ones.
    pub in_replay: bool,
}

impl Subscription {
    /// The time of the last event that should be among the stored ones, and is not: it was dropped, or lost with
    /// a part of the journal.
    pub fn missing(&self) -> Option<Timestamp> {
        self.missing
    }

    /// The next events, one at least; waits for them. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        loop {
            // Created before the log is read, so that no event falls in between (see tokio's `Notified`).
            let appended = self.channel().appended.notified();
            let batch = self.channel().ring().read(self.id, u64::MAX)?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            appended.await;
        }
    }

    /// The next of the events that were in the log when the subscription began; none after the
    /// last of them, which the subscriber has received then.
    pub fn stored(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        let mut ring = self.channel().ring();
        let batch = ring.read(self.id, self.stored_end)?;
        if batch.is_empty() {
            ring.has_stored(self.id);
        }
        Ok(batch)
    }

    pub(crate) fn channel(&self) -> &Channel {
        self.log.channel(&self.namespace)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel().ring().unsubscribe(self.id);
    }
}
