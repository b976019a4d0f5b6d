//! An event in memory, and whether anybody has had it.

use std::sync::Arc;

use gantry_domain::{Event, EventKind};

use crate::{filter::Wanted, ring::SubscriptionId};

/// Later than every subscription.
const UNTOLD: SubscriptionId = SubscriptionId::MAX;

/// Every event has a place: a number that goes up by one.
pub(crate) struct Slot {
    pub(crate) place: u64,
    pub(crate) event: Arc<Event>,
    /// The latest subscription at the time of the first receipt.
    told: SubscriptionId,
    /// Nobody needs to be told any more: what ended was deleted.
    settled: bool,
}

impl Slot {
    /// An event that no subscriber has had, or one that an earlier server delivered.
    pub(crate) fn new(place: u64, event: Arc<Event>, told: bool) -> Self {
        Self { place, event, told: if told { 0 } else { UNTOLD }, settled: false }
    }

    /// Whether the event is kept until a subscriber has had it: an exit is. So is an OOM kill in a named
    /// namespace, where subscribers begin with such events and not with a moment.
    pub(crate) fn is_kept(&self) -> bool {
        match self.event.kind {
            EventKind::Exited { .. } => true,
            EventKind::OutOfMemory => !self.event.container.namespace.is_types_api(),
            _ => false,
        }
    }

    /// One that is kept, and that no subscriber has had.
    pub(crate) fn is_untold(&self) -> bool {
        self.told == UNTOLD && !self.settled && self.is_kept()
    }

    /// One that is kept no longer, as a subscriber has had it or nobody needs it.
    pub(crate) fn is_told(&self) -> bool {
        (self.told != UNTOLD || self.settled) && self.is_kept()
    }

    /// One that is kept, and that no subscriber had had when this subscription began.
    pub(crate) fn is_untold_for(&self, subscription: SubscriptionId) -> bool {
        self.told >= subscription && !self.settled && self.is_kept()
    }

    /// Notes that a subscriber has had the event: whether that is news.
    pub(crate) fn tell(&mut self, wanted: &Wanted, latest: SubscriptionId) -> bool {
        let is_news = self.is_untold() && wanted.includes(&self.event);
        if is_news {
            self.told = latest;
        }
        is_news
    }

    /// Notes that a subscriber that should have had it has not.
    pub(crate) fn untell(&mut self) {
        self.told = UNTOLD;
    }

    /// Notes that nobody needs to be told: whether somebody did.
    pub(crate) fn settle(&mut self) -> bool {
        let was_untold = self.is_untold();
        self.settled = true;
        was_untold
    }
}
