//! The newest events in memory, and how far each subscription has read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::From;
use super::subscription::Lagged;
use crate::domain::{Event, Timestamp};

/// How many events beyond those kept anyway are held for a subscriber that does not read: some
/// 15 MB of them.
const BACKLOG: usize = 65_536;

/// Most events that are handed out at once.
const BATCH: usize = 256;

/// Names a subscription.
pub(super) type SubscriptionId = u64;

/// Every event has a place: a number that goes up by one. A subscription is the place that it
/// reads next.
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    /// Place of the first of `events`.
    first: u64,
    /// Timestamp of the event before that one.
    dropped: Timestamp,
    kept: usize,
    backlog: usize,
    cursors: HashMap<SubscriptionId, u64>,
    subscribed: SubscriptionId,
}

impl Ring {
    /// A ring that keeps as many of the newest events whether anybody has yet to read them or not.
    pub(super) fn new(kept: usize) -> Self {
        Self {
            events: VecDeque::new(),
            first: 0,
            dropped: Timestamp(0),
            kept,
            backlog: BACKLOG,
            cursors: HashMap::new(),
            subscribed: 0,
        }
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.events.push_back(event);
        self.trim();
    }

    /// Place of the next event to come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(super) fn newest(&self, count: usize) -> Vec<Arc<Event>> {
        let skipped = self.events.len().saturating_sub(count);
        self.events.iter().skip(skipped).cloned().collect()
    }

    /// From the newest to the oldest.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev().map(Arc::as_ref)
    }

    /// Begins a subscription. At most `retain` events that were there before are part of it.
    pub(super) fn subscribe(&mut self, from: From, retain: usize) -> SubscriptionId {
        let index = match from {
            From::Now => self.events.len(),
            From::After(timestamp) => self
                .events
                .partition_point(|event| event.at <= timestamp)
                .max(self.events.len().saturating_sub(retain)),
        };
        self.subscribed += 1;
        self.cursors.insert(self.subscribed, self.first + index as u64);
        self.subscribed
    }

    pub(super) fn unsubscribe(&mut self, id: SubscriptionId) {
        self.cursors.remove(&id);
        self.trim();
    }

    /// The next events of a subscription up to the place `end`; none if it has read them all.
    pub(super) fn read(&mut self, id: SubscriptionId, end: u64) -> Result<Vec<Arc<Event>>, Lagged> {
        let Some(cursor) = self.cursors.get_mut(&id) else { return Ok(Vec::new()) };
        let Some(index) = cursor.checked_sub(self.first) else {
            *cursor = self.first;
            return Err(Lagged { resume_after: self.dropped });
        };
        let left = end.saturating_sub(*cursor).min(BATCH as u64);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let count = usize::try_from(left).unwrap_or(BATCH);
        let batch: Vec<_> = self.events.iter().skip(index).take(count).cloned().collect();
        *cursor += batch.len() as u64;
        // It may be the one that the others were held for.
        if index + self.kept < self.events.len() {
            self.trim();
        }
        Ok(batch)
    }

    /// Lets go of events that are neither among the last ones nor still to be read by anybody.
    fn trim(&mut self) {
        let Some(surplus) = self.events.len().checked_sub(self.kept).filter(|n| *n > 0) else {
            return;
        };
        let unread = self.cursors.values().min().map_or(surplus, |slowest| {
            usize::try_from(slowest.saturating_sub(self.first)).unwrap_or(usize::MAX)
        });
        let excess = surplus.min(unread).max(surplus.saturating_sub(self.backlog));
        if let Some(last) = excess.checked_sub(1).and_then(|last| self.events.get(last)) {
            self.dropped = last.at;
            self.events.drain(..excess);
            self.first += excess as u64;
        }
        if self.events.capacity() / 4 > self.events.len().max(self.kept) {
            self.events.shrink_to(self.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ContainerId, ContainerKey, EventKind, Life, Namespace};

    fn event(at: u64) -> Arc<Event> {
        let id = ContainerId::parse("a").unwrap();
        let container = ContainerKey { namespace: Namespace::Types, id };
        Arc::new(Event { at: Timestamp(at), container, life: Life(1), kind: EventKind::Paused })
    }

    /// A ring that keeps ten, and another ten for somebody slow, with the events 1 to `count`.
    fn ring(count: u64) -> Ring {
        let mut ring = Ring::new(10);
        ring.backlog = 10;
        for at in 1..=count {
            ring.push(event(at));
        }
        ring
    }

    fn read(ring: &mut Ring, id: SubscriptionId) -> Result<Vec<u64>, Lagged> {
        let batch = ring.read(id, u64::MAX)?;
        Ok(batch.iter().map(|event| event.at.0).collect())
    }

    fn held(ring: &Ring) -> Vec<u64> {
        ring.newest(usize::MAX).iter().map(|event| event.at.0).collect()
    }

    #[test]
    fn keeps_the_newest() {
        let mut ring = ring(25);
        assert_eq!(held(&ring), (16..=25).collect::<Vec<_>>());
        let old = ring.subscribe(From::After(Timestamp(3)), 10);
        assert_eq!(read(&mut ring, old), Ok((16..=25).collect()));
        let few = ring.subscribe(From::After(Timestamp(3)), 2);
        assert_eq!(read(&mut ring, few), Ok(vec![24, 25]));
        let exact = ring.subscribe(From::After(Timestamp(22)), 10);
        assert_eq!(read(&mut ring, exact), Ok(vec![23, 24, 25]));
        let none = ring.subscribe(From::After(Timestamp(25)), 10);
        assert_eq!(read(&mut ring, none), Ok(vec![]));
        let live = ring.subscribe(From::Now, 10);
        assert_eq!(read(&mut ring, live), Ok(vec![]));
        ring.push(event(26));
        for id in [old, few, exact, none, live] {
            assert_eq!(read(&mut ring, id), Ok(vec![26]));
        }
    }

    #[test]
    fn holds_what_the_slowest_has_not_read_and_no_longer() {
        let mut ring = ring(20);
        let slow = ring.subscribe(From::After(Timestamp(0)), 10);
        let slower = ring.subscribe(From::After(Timestamp(0)), 10);
        (21..=27).for_each(|at| ring.push(event(at)));
        assert_eq!(held(&ring), (11..=27).collect::<Vec<_>>());
        assert_eq!(read(&mut ring, slow), Ok((11..=27).collect()));
        assert_eq!(held(&ring), (11..=27).collect::<Vec<_>>());
        ring.unsubscribe(slower);
        assert_eq!(held(&ring), (18..=27).collect::<Vec<_>>());
    }

    #[test]
    fn one_too_far_behind_is_told_once_and_goes_on() {
        let mut ring = ring(5);
        let slow = ring.subscribe(From::Now, 10);
        (6..=25).for_each(|at| ring.push(event(at)));
        let mut just_in_time = ring.subscribe(From::After(Timestamp(0)), 20);
        assert_eq!(read(&mut ring, just_in_time), Ok((6..=25).collect()));
        just_in_time = ring.subscribe(From::After(Timestamp(0)), 20);
        ring.push(event(26));
        for late in [slow, just_in_time] {
            assert_eq!(read(&mut ring, late), Err(Lagged { resume_after: Timestamp(6) }));
            assert_eq!(read(&mut ring, late), Ok((7..=26).collect()));
            assert_eq!(read(&mut ring, late), Ok(vec![]));
        }
        assert_eq!(held(&ring), (17..=26).collect::<Vec<_>>());
    }

    #[test]
    fn hands_out_batches_up_to_an_end() {
        let mut ring = Ring::new(1000);
        (1..=600).for_each(|at| ring.push(event(at)));
        let id = ring.subscribe(From::After(Timestamp(0)), 1000);
        let end = ring.end();
        (601..=700).for_each(|at| ring.push(event(at)));
        let batches: Vec<_> = (0..4).map(|_| ring.read(id, end).unwrap().len()).collect();
        assert_eq!(batches, [256, 256, 88, 0]);
        assert_eq!(read(&mut ring, id), Ok((601..=700).collect()));
    }

    #[test]
    fn memory_goes_back_when_all_have_read() {
        let mut ring = Ring::new(10);
        let slow = ring.subscribe(From::Now, 10);
        (1..=20_000).for_each(|at| ring.push(event(at)));
        assert!(ring.events.capacity() >= 20_000);
        while !read(&mut ring, slow).unwrap().is_empty() {}
        assert_eq!(ring.events.len(), 10);
        assert!(ring.events.capacity() < 100, "{}", ring.events.capacity());
    }
}
