//! Exits that are older than what is kept anyway, and that no subscriber has had yet.

use std::collections::VecDeque;
use std::ops::Range;

use gantry_domain::Timestamp;

use crate::{Filter, ring::SubscriptionId, slot::Slot};

/// How many exits that somebody has had by now are left in between before they are taken out.
const TOLD: usize = 64;

#[derive(Default)]
pub(crate) struct Older {
    exits: VecDeque<Slot>,
    /// How many of them somebody has had since they came here, at most.
    told: usize,
    /// How many are too many.
    most_told: usize,
}

impl Older {
    pub(crate) fn push(&mut self, slot: Slot) {
        self.told += usize::from(!slot.is_untold_exit());
        self.exits.push_back(slot);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.exits.iter()
    }

    /// Those at this place and later ones.
    pub(crate) fn from(&self, place: u64) -> impl Iterator<Item = &Slot> {
        self.exits.range(self.index(place)..)
    }

    /// The place of the first one after this moment.
    pub(crate) fn place_after(&self, at: Timestamp) -> Option<u64> {
        let index = self.exits.partition_point(|slot| slot.event.at <= at);
        self.exits.get(index).map(|slot| slot.place)
    }

    pub(crate) fn tell(&mut self, places: &Range<u64>, filter: &Filter, latest: SubscriptionId) {
        let indexes = self.index(places.start)..self.index(places.end);
        for slot in self.exits.range_mut(indexes) {
            self.told += usize::from(slot.tell(filter, latest));
        }
    }

    pub(crate) fn untell(&mut self, from: u64) {
        let first = self.index(from);
        self.exits.range_mut(first..).for_each(Slot::untell);
    }

    /// Removes received exits before `before`, which no reader still needs; returns the time of the last one.
    /// Acts rarely, as it scans all.
    pub(crate) fn prune(&mut self, before: u64) -> Option<Timestamp> {
        if self.told <= self.most_told.max(TOLD) {
            return None;
        }
        let mut last = None;
        self.exits.retain(|slot| {
            let stays = slot.is_untold_exit() || slot.place >= before;
            if !stays {
                last = Some(slot.event.at);
            }
            stays
        });
        self.exits.shrink_to(2 * self.exits.len());
        self.told = self.exits.iter().filter(|slot| !slot.is_untold_exit()).count();
        self.most_told = self.told + self.exits.len() / 2;
        last
    }

    /// Takes out the oldest of more than so many.
    pub(crate) fn pop_above(&mut self, most: usize) -> Option<Slot> {
        if self.exits.len() <= most { None } else { self.exits.pop_front() }
    }

    fn index(&self, place: u64) -> usize {
        self.exits.partition_point(|slot| slot.place < place)
    }
}
