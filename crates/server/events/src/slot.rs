//! An event in memory, and whether anybody has had it.

use std::sync::Arc;

use gantry_domain::{Event, EventKind};

use crate::{Filter, ring::SubscriptionId};

/// Later than every subscription.
const UNTOLD: SubscriptionId = SubscriptionId::MAX;

/// Every event has a place: a number that goes up by one.
pub(crate) struct Slot {
    pub(crate) place: u64,
    pub(crate) event: Arc<Event>,
    /// The latest subscription at the time of the first receipt.
    told: SubscriptionId,
}

impl Slot {
    /// An event that no subscriber has had, or one that an earlier server delivered.
    pub(crate) fn new(place: u64, event: Arc<Event>, told: bool) -> Self {
        Self { place, event, told: if told { 0 } else { UNTOLD } }
    }

    fn is_exit(&self) -> bool {
        matches!(self.event.kind, EventKind::Exited { .. })
    }

    /// An exit that no subscriber has had.
    pub(crate) fn is_untold_exit(&self) -> bool {
        self.told == UNTOLD && self.is_exit()
    }

    /// An exit that a subscriber has had.
    pub(crate) fn is_told_exit(&self) -> bool {
        self.told != UNTOLD && self.is_exit()
    }

    /// An exit that no subscriber had had when this subscription began.
    pub(crate) fn is_untold_exit_for(&self, subscription: SubscriptionId) -> bool {
        self.told >= subscription && self.is_exit()
    }

    /// Notes that a subscriber has had the event: whether that is news.
    pub(crate) fn tell(&mut self, filter: &Filter, latest: SubscriptionId) -> bool {
        let is_news = self.told == UNTOLD && filter.matches(&self.event.container);
        if is_news {
            self.told = latest;
        }
        is_news
    }

    /// Notes that a subscriber that should have had it has not.
    pub(crate) fn untell(&mut self) {
        self.told = UNTOLD;
    }
}
