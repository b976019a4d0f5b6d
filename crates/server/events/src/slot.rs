//! An event in memory, and whether it was delivered.

use std::sync::Arc;

use gantry_domain::{Event, EventKind};

use crate::{filter::Wanted, ring::SubscriptionId};

/// In place of a subscription; later than each of them.
const UNDELIVERED: SubscriptionId = SubscriptionId::MAX;

/// Every event has a place: a number that goes up by one.
pub(crate) struct Slot {
    pub(crate) place: u64,
    pub(crate) event: Arc<Event>,
    /// What this event and all before it take.
    pub(crate) bytes: u64,
    /// The latest subscription at the time of the first delivery.
    delivered: SubscriptionId,
    /// It need not be delivered any more: what ended was deleted.
    obsolete: bool,
}

impl Slot {
    /// An undelivered event, or one that an earlier server has delivered.
    pub(crate) fn new(place: u64, event: Arc<Event>, bytes: u64, delivered: bool) -> Self {
        let delivered = if delivered { 0 } else { UNDELIVERED };
        Self { place, event, bytes, delivered, obsolete: false }
    }

    /// Whether the event is kept until it is delivered: an exit is. So is an OOM kill in a named
    /// namespace, where a subscription begins with undelivered events, not with a time.
    pub(crate) fn is_kept(&self) -> bool {
        match self.event.kind {
            EventKind::Exited { .. } => true,
            EventKind::OutOfMemory => !self.event.container.namespace.is_types_api(),
            _ => false,
        }
    }

    /// One that is kept, and was not delivered.
    pub(crate) fn is_undelivered(&self) -> bool {
        self.delivered == UNDELIVERED && !self.obsolete && self.is_kept()
    }

    /// One that is kept no longer, as it was delivered or is obsolete.
    pub(crate) fn is_delivered(&self) -> bool {
        (self.delivered != UNDELIVERED || self.obsolete) && self.is_kept()
    }

    /// One that is kept, and was undelivered when this subscription began.
    pub(crate) fn is_undelivered_for(&self, subscription: SubscriptionId) -> bool {
        self.delivered >= subscription && !self.obsolete && self.is_kept()
    }

    /// Notes that a subscriber has received the event. Whether it was undelivered before.
    pub(crate) fn mark_delivered(&mut self, wanted: &Wanted, latest: SubscriptionId) -> bool {
        let is_news = self.is_undelivered() && wanted.includes(&self.event);
        if is_news {
            self.delivered = latest;
        }
        is_news
    }

    /// Notes that a subscriber that should have received the event has not.
    pub(crate) fn mark_undelivered(&mut self) {
        self.delivered = UNDELIVERED;
    }

    /// Notes that the event need not be delivered. Whether it was undelivered before.
    pub(crate) fn mark_obsolete(&mut self) -> bool {
        let was_undelivered = self.is_undelivered();
        self.obsolete = true;
        was_undelivered
    }
}
