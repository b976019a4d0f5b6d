//! Looks at the events in memory, and at how far subscriptions are behind, and changes nothing.

use std::sync::Arc;

use gantry_domain::{Event, Timestamp};

use super::{Ring, SubscriptionId};
use crate::measures::{Lag, cost};

impl Ring {
    /// From the newest to the oldest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.slots.iter().rev().map(|slot| &*slot.event)
    }

    /// Everything that is kept, from the newest to the oldest. There can be gaps before those that [`Self::iter`] has.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Event> {
        self.iter().chain(self.older.iter().rev().map(|slot| &*slot.event))
    }

    /// What is kept of the events after a moment, whoever has read them.
    pub(crate) fn after(&self, moment: Timestamp) -> impl Iterator<Item = &Arc<Event>> {
        let later = self.slots.partition_point(|slot| slot.event.at <= moment);
        let older = self.older.after(moment);
        older.chain(self.slots.range(later..)).map(|slot| &slot.event)
    }

    /// The time of the last event, or of the last that was dropped.
    pub(crate) fn last(&self) -> Timestamp {
        self.slots.back().map_or(self.dropped, |slot| slot.event.at.max(self.dropped))
    }

    /// The time of the last event that was dropped.
    pub(crate) fn dropped(&self) -> Timestamp {
        self.dropped
    }

    /// How far each subscription is behind, in events and bytes.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (SubscriptionId, Lag)> {
        self.cursors.iter().map(|(id, cursor)| {
            let next = cursor.next_dense();
            let events = self.end().saturating_sub(next.max(self.first));
            let before = self.index(next).checked_sub(1).and_then(|at| self.slots.get(at));
            // Without a slot before it, all that is in memory is unread.
            let first = || self.slots.front().map_or(self.bytes, |it| it.bytes - cost(&it.event));
            let bytes = self.bytes - before.map_or_else(first, |slot| slot.bytes);
            (*id, Lag { events, bytes })
        })
    }

    /// How far a reader is behind that has read everything up to a moment.
    pub(crate) fn lag_after(&self, moment: Timestamp) -> Lag {
        let later = self.slots.partition_point(|slot| slot.event.at <= moment);
        let unread = self.slots.get(later);
        let bytes = unread.map_or(0, |slot| self.bytes - slot.bytes + cost(&slot.event));
        Lag { events: (self.slots.len() - later) as u64, bytes }
    }
}
