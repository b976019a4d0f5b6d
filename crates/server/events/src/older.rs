//! Undelivered exits and OOM kills that are older than the events that are kept anyway.

use std::collections::VecDeque;
use std::ops::Range;

use gantry_domain::{Event, Timestamp};

use crate::{filter::Wanted, ring::SubscriptionId, slot::Slot};

/// The least number of delivered events that are worth a scan that removes them.
const DELIVERED: usize = 64;

#[derive(Default)]
pub(crate) struct Older {
    slots: VecDeque<Slot>,
    /// At most how many of them were delivered since they were added here.
    delivered: usize,
    /// With more delivered ones than this, and than [`DELIVERED`], they are removed.
    most_delivered: usize,
}

impl Older {
    pub(crate) fn push(&mut self, slot: Slot) {
        self.delivered += usize::from(!slot.is_undelivered());
        self.slots.push_back(slot);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Those at this place and later ones.
    pub(crate) fn from(&self, place: u64) -> impl Iterator<Item = &Slot> {
        self.slots.range(self.index(place)..)
    }

    /// Those after this moment.
    pub(crate) fn after(&self, moment: Timestamp) -> impl Iterator<Item = &Slot> {
        self.slots.range(self.slots.partition_point(|slot| slot.event.at <= moment)..)
    }

    /// The place of the first one after this moment.
    pub(crate) fn place_after(&self, at: Timestamp) -> Option<u64> {
        let index = self.slots.partition_point(|slot| slot.event.at <= at);
        self.slots.get(index).map(|slot| slot.place)
    }

    /// Notes that the events at these places were delivered; `news` gets those that were undelivered before.
    pub(crate) fn mark_delivered(
        &mut self,
        places: &Range<u64>,
        wanted: &Wanted,
        latest: SubscriptionId,
        mut news: impl FnMut(&Event),
    ) {
        let indexes = self.index(places.start)..self.index(places.end);
        for slot in self.slots.range_mut(indexes) {
            if slot.mark_delivered(wanted, latest) {
                self.delivered += 1;
                news(&slot.event);
            }
        }
    }

    /// Notes that such events need not be delivered; returns the times of those that were undelivered.
    pub(crate) fn mark_obsolete(&mut self, which: impl Fn(&Event) -> bool) -> Vec<Timestamp> {
        let slots = self.slots.iter_mut().filter(|slot| slot.is_kept() && which(&slot.event));
        let obsolete = slots.filter_map(|slot| slot.mark_obsolete().then_some(slot.event.at));
        let obsolete: Vec<_> = obsolete.collect();
        self.delivered += obsolete.len();
        obsolete
    }

    pub(crate) fn mark_undelivered(&mut self, from: u64) {
        let first = self.index(from);
        self.slots.range_mut(first..).for_each(Slot::mark_undelivered);
    }

    /// Removes received events before `before`, which no reader still needs; returns the time of the last one.
    /// Acts rarely, as it scans all.
    pub(crate) fn prune(&mut self, before: u64) -> Option<Timestamp> {
        if self.delivered <= self.most_delivered.max(DELIVERED) {
            return None;
        }
        let mut last = None;
        self.slots.retain(|slot| {
            let stays = slot.is_undelivered() || slot.place >= before;
            if !stays {
                last = Some(slot.event.at);
            }
            stays
        });
        self.slots.shrink_to(2 * self.slots.len());
        self.delivered = self.slots.iter().filter(|slot| !slot.is_undelivered()).count();
        self.most_delivered = self.delivered + self.slots.len() / 2;
        last
    }

    /// Removes the oldest event if there are more than `most`.
    pub(crate) fn pop_above(&mut self, most: usize) -> Option<Slot> {
        if self.slots.len() <= most { None } else { self.slots.pop_front() }
    }

    fn index(&self, place: u64) -> usize {
        self.slots.partition_point(|slot| slot.place < place)
    }
}
