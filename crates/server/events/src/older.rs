//! Exits and OOM kills that are older than what is kept anyway, and that no subscriber has had yet.

use std::collections::VecDeque;
use std::ops::Range;

use gantry_domain::{Event, Timestamp};

use crate::{filter::Wanted, ring::SubscriptionId, slot::Slot};

/// How many events that somebody has had by now are left in between before they are taken out.
const TOLD: usize = 64;

#[derive(Default)]
pub(crate) struct Older {
    slots: VecDeque<Slot>,
    /// How many of them somebody has had since they came here, at most.
    told: usize,
    /// How many are too many.
    most_told: usize,
}

impl Older {
    pub(crate) fn push(&mut self, slot: Slot) {
        self.told += usize::from(!slot.is_untold());
        self.slots.push_back(slot);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Those at this place and later ones.
    pub(crate) fn from(&self, place: u64) -> impl Iterator<Item = &Slot> {
        self.slots.range(self.index(place)..)
    }

    /// The place of the first one after this moment.
    pub(crate) fn place_after(&self, at: Timestamp) -> Option<u64> {
        let index = self.slots.partition_point(|slot| slot.event.at <= at);
        self.slots.get(index).map(|slot| slot.place)
    }

    /// Notes that a subscriber has had what is at these places; `news` gets what nobody had had before.
    pub(crate) fn tell(
        &mut self,
        places: &Range<u64>,
        wanted: &Wanted,
        latest: SubscriptionId,
        mut news: impl FnMut(&Event),
    ) {
        let indexes = self.index(places.start)..self.index(places.end);
        for slot in self.slots.range_mut(indexes) {
            if slot.tell(wanted, latest) {
                self.told += 1;
                news(&slot.event);
            }
        }
    }

    /// Notes that nobody needs to be told of such events; tells which of them are news.
    pub(crate) fn settle(&mut self, which: impl Fn(&Event) -> bool) -> Vec<Timestamp> {
        let slots = self.slots.iter_mut().filter(|slot| slot.is_kept() && which(&slot.event));
        let settled = slots.filter_map(|slot| slot.settle().then_some(slot.event.at));
        let settled: Vec<_> = settled.collect();
        self.told += settled.len();
        settled
    }

    pub(crate) fn untell(&mut self, from: u64) {
        let first = self.index(from);
        self.slots.range_mut(first..).for_each(Slot::untell);
    }

    /// Removes received events before `before`, which no reader still needs; returns the time of the last one.
    /// Acts rarely, as it scans all.
    pub(crate) fn prune(&mut self, before: u64) -> Option<Timestamp> {
        if self.told <= self.most_told.max(TOLD) {
            return None;
        }
        let mut last = None;
        self.slots.retain(|slot| {
            let stays = slot.is_untold() || slot.place >= before;
            if !stays {
                last = Some(slot.event.at);
            }
            stays
        });
        self.slots.shrink_to(2 * self.slots.len());
        self.told = self.slots.iter().filter(|slot| !slot.is_untold()).count();
        self.most_told = self.told + self.slots.len() / 2;
        last
    }

    /// Takes out the oldest of more than so many.
    pub(crate) fn pop_above(&mut self, most: usize) -> Option<Slot> {
        if self.slots.len() <= most { None } else { self.slots.pop_front() }
    }

    fn index(&self, place: u64) -> usize {
        self.slots.partition_point(|slot| slot.place < place)
    }
}
