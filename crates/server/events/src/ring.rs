//! The newest events in memory, and how far each subscription has read.

mod view;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use gantry_domain::{ContainerKey, Event, EventKind, Timestamp};

use crate::{
    From,
    cursor::Cursor,
    filter::Wanted,
    measures::cost,
    older::Older,
    record::{DeliveredRange, Lines, Marks},
    slot::Slot,
    subscription::Lagged,
};

/// How many events beyond those kept anyway are held for a subscriber that does not read, and how
/// many exits until there is a subscriber: some 15 MB of them.
pub(crate) const BACKLOG: usize = 65_536;

/// Most events that are handed out at once.
const BATCH: usize = 256;

/// Names a subscription; a later one has a larger number.
pub(crate) type SubscriptionId = u64;

/// The newest events, those that some subscriber has yet to read, and undelivered exits.
pub(crate) struct Ring {
    older: Older,
    slots: VecDeque<Slot>,
    /// Place of the first of `slots`.
    first: u64,
    /// What all events so far have taken, see [`crate::measures`].
    bytes: u64,
    /// Timestamp of the last event that was dropped.
    dropped: Timestamp,
    kept: usize,
    backlog: usize,
    cursors: HashMap<SubscriptionId, Cursor>,
    subscribed: SubscriptionId,
    /// Receipts of events before this place are recorded already.
    noted: u64,
    /// From `noted` to here, every exit was delivered.
    undelivered_from: u64,
    /// The latest place whose event was delivered.
    delivered: u64,
    /// See [`Self::received`].
    received: Vec<Timestamp>,
}

impl Ring {
    /// A ring that keeps so many of the newest events, whether anybody has yet to read them or not.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            older: Older::default(),
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            dropped: Timestamp(0),
            kept,
            backlog: BACKLOG,
            cursors: HashMap::new(),
            subscribed: 0,
            noted: 0,
            undelivered_from: 0,
            delivered: 0,
            received: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_backlog(mut self, backlog: usize) -> Self {
        self.backlog = backlog;
        self
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// A ring with these events of an earlier server.
    pub(crate) fn of_earlier(
        kept: usize,
        events: Vec<Event>,
        lines: &Lines,
        gone: Timestamp,
    ) -> Self {
        let mut ring = Self::new(kept);
        ring.dropped = gone;
        for event in events {
            let delivered = lines.was_delivered(&event);
            ring.push_slot(Arc::new(event), delivered);
        }
        ring.is_noted();
        ring
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.push_slot(event, false);
    }

    fn push_slot(&mut self, event: Arc<Event>, delivered: bool) {
        if let Some(container) = makes_obsolete(&event) {
            self.mark_obsolete(|earlier| earlier.container == *container);
        }
        self.bytes += cost(&event);
        self.slots.push_back(Slot::new(self.end(), event, self.bytes, delivered));
        self.trim();
    }

    /// Notes that such events need not be delivered any more; returns the times of those that were undelivered.
    pub(crate) fn mark_obsolete(&mut self, which: impl Fn(&Event) -> bool) -> Vec<Timestamp> {
        let mut obsolete = self.older.mark_obsolete(&which);
        let slots = self.slots.iter_mut().filter(|slot| slot.is_kept() && which(&slot.event));
        obsolete.extend(slots.filter_map(|slot| slot.mark_obsolete().then_some(slot.event.at)));
        obsolete
    }

    /// Place of the next event to come.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// What a restarted server has to know: the newest events, and undelivered exits, with what is to be noted
    /// with each.
    pub(crate) fn lasting(&self) -> Vec<(Arc<Event>, Marks)> {
        let newest = self.slots.len().saturating_sub(self.kept);
        let before = self.older.iter().chain(self.slots.range(..newest));
        let before = before.filter(|slot| slot.is_undelivered());
        let all = before.chain(self.slots.range(newest..));
        let noted = |slot: &Slot| {
            let delivered = slot.is_delivered();
            let delivered_range = Some(DeliveredRange::only(slot.event.at)).filter(|_| delivered);
            let marks = match slot.event.container.namespace.is_types_api() {
                true => Marks { delivered_range, ..Marks::default() },
                false => Marks { delivered, ..Marks::default() },
            };
            (Arc::clone(&slot.event), marks)
        };
        let mut lasting: Vec<_> = all.map(noted).collect();
        let mut left_out = self.older.iter().chain(self.slots.range(..newest)).rev();
        let gone = left_out.find(|slot| !slot.is_undelivered()).map(|slot| slot.event.at);
        if let Some((_, marks)) = lasting.last_mut() {
            marks.gone = gone.max(Some(self.dropped)).filter(|gone| *gone > Timestamp(0));
        }
        lasting
    }

    /// [`Self::lasting`] was written: [`Self::delivered_range`] need not repeat it.
    pub(crate) fn is_noted(&mut self) {
        self.noted = self.end();
        self.undelivered_from = self.noted;
        self.received = Vec::new();
    }

    /// Events of named namespaces that were received, and are not noted as such yet.
    pub(crate) fn received(&mut self) -> &mut Vec<Timestamp> {
        &mut self.received
    }

    /// What to record with the next event: the range of time without an undelivered exit. Skips exits that may
    /// never count as delivered, because it is unknown whether their replay arrived.
    pub(crate) fn delivered_range(&mut self) -> Option<DeliveredRange> {
        let recent = self.slots.range(self.index(self.undelivered_from)..);
        let later = self.older.from(self.undelivered_from).chain(recent);
        let (mut place, mut to) = (self.end(), self.slots.back()?.event.at.0);
        for undelivered in later.filter(|slot| slot.is_undelivered()) {
            if undelivered.place > self.delivered {
                (place, to) = (undelivered.place, undelivered.event.at.0.saturating_sub(1));
                break;
            }
            self.noted = undelivered.place + 1;
        }
        self.undelivered_from = place;
        let from = self.slots.get(self.index(self.noted))?.event.at.0.saturating_sub(1);
        Some(DeliveredRange(from, to))
            .filter(|delivered_range| delivered_range.0 < delivered_range.1)
    }

    /// Begins a subscription. At most `retain` events that were there before are part of it, and
    /// undelivered exits. Also returns the time of the last event that should be part of it and is missing.
    pub(crate) fn subscribe(
        &mut self,
        from: From,
        retain: usize,
        wanted: impl Into<Wanted>,
    ) -> (SubscriptionId, Option<Timestamp>) {
        self.subscribed += 1;
        let (id, end) = (self.subscribed, self.end());
        let (next, dense, missing) = match from {
            From::Now => (end, end, None),
            From::After(after) => {
                let later = self.slots.partition_point(|slot| slot.event.at <= after);
                let dense = later.max(self.slots.len().saturating_sub(retain));
                let next = self.older.place_after(after).unwrap_or(self.place(later));
                (next, self.place(dense), self.missing(after, dense, id))
            }
        };
        self.cursors.insert(id, Cursor::new(next, dense, end, wanted.into()));
        (id, missing)
    }

    /// Begins a subscription to what is undelivered, and then to the events to come.
    pub(crate) fn subscribe_undelivered(&mut self, wanted: Wanted) -> SubscriptionId {
        self.subscribed += 1;
        self.cursors.insert(self.subscribed, Cursor::of_undelivered(self.end(), wanted));
        self.subscribed
    }

    fn missing(&self, after: Timestamp, dense: usize, id: SubscriptionId) -> Option<Timestamp> {
        let before = self.older.iter().chain(self.slots.range(..dense)).rev();
        let left_out = before.filter(|slot| !slot.is_undelivered_for(id));
        let latest = left_out.map(|slot| slot.event.at).next().unwrap_or(self.dropped);
        Some(latest.max(self.dropped)).filter(|latest| *latest > after)
    }

    /// Ends a subscription. Its subscriber can ask again for exits that it missed by lagging.
    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        let lagged = |cursor: &Cursor| cursor.lagged && !matches!(cursor.wanted, Wanted::Nothing);
        if let Some(cursor) = self.cursors.remove(&id).filter(lagged) {
            self.older.mark_undelivered(cursor.next);
            let unread = self.index(cursor.next);
            self.slots.range_mut(unread..).for_each(Slot::mark_undelivered);
            self.undelivered_from = self.undelivered_from.min(cursor.next).max(self.noted);
        }
        self.trim();
    }

    /// Notes that the subscriber has received all events that were stored when its subscription began.
    pub(crate) fn has_stored(&mut self, id: SubscriptionId) {
        if let Some(mut cursor) = self.cursors.remove(&id) {
            self.mark_delivered(&cursor.take_stored(), &cursor);
            self.cursors.insert(id, cursor);
        }
    }

    /// The next events of a subscription up to the place `end`; none if it has read them all.
    pub(crate) fn read(&mut self, id: SubscriptionId, end: u64) -> Result<Vec<Arc<Event>>, Lagged> {
        let Some(mut cursor) = self.cursors.remove(&id) else { return Ok(Vec::new()) };
        for delivered in cursor.take_delivered() {
            self.mark_delivered(&delivered, &cursor);
        }
        let begin = self.index(cursor.next);
        let read = self.read_on(&mut cursor, id, end);
        self.cursors.insert(id, cursor);
        // Events may have been held for this subscription only.
        if begin + self.kept < self.slots.len() {
            self.trim();
        }
        read
    }

    fn read_on(
        &self,
        cursor: &mut Cursor,
        id: SubscriptionId,
        end: u64,
    ) -> Result<Vec<Arc<Event>>, Lagged> {
        if std::mem::take(&mut cursor.missed) {
            cursor.lagged = true;
            let in_replay = cursor.next < cursor.stored_end;
            return Err(Lagged { resume_after: self.dropped, in_replay });
        }
        let sparse_end = cursor.dense.max(self.first).min(end);
        if cursor.next < sparse_end {
            let recent = self.slots.range(self.index(cursor.next)..self.index(sparse_end));
            let exits = self.older.from(cursor.next).chain(recent);
            let exits: Vec<_> =
                exits.filter(|slot| slot.is_undelivered_for(id)).take(BATCH).collect();
            if let Some(last) = exits.last() {
                cursor.next = last.place + 1;
                return Ok(hand_out(cursor, exits.into_iter()));
            }
            cursor.next = sparse_end;
        }
        let batch = self.index(cursor.next)..self.index(end.min(cursor.next + BATCH as u64));
        cursor.next += batch.len() as u64;
        Ok(hand_out(cursor, self.slots.range(batch)))
    }

    fn mark_delivered(&mut self, places: &Range<u64>, cursor: &Cursor) {
        if places.is_empty() || matches!(cursor.wanted, Wanted::Nothing) {
            return;
        }
        self.delivered = self.delivered.max(places.end - 1);
        let received = &mut self.received;
        let mut note = |event: &Event| {
            if !event.container.namespace.is_types_api() {
                received.push(event.at);
            }
        };
        self.older.mark_delivered(places, &cursor.wanted, self.subscribed, &mut note);
        let first = self.first;
        let index = |place: u64| usize::try_from(place.saturating_sub(first)).unwrap_or(usize::MAX);
        let len = self.slots.len();
        for slot in self.slots.range_mut(index(places.start).min(len)..index(places.end).min(len)) {
            if slot.mark_delivered(&cursor.wanted, self.subscribed) {
                note(&slot.event);
            }
        }
    }

    /// The index in `slots` of a place, or the nearest one.
    fn index(&self, place: u64) -> usize {
        let index = usize::try_from(place.saturating_sub(self.first)).unwrap_or(usize::MAX);
        index.min(self.slots.len())
    }

    fn place(&self, index: usize) -> u64 {
        self.first + index as u64
    }

    /// Drops events that are not among the newest, not still to be read, and not undelivered exits.
    fn trim(&mut self) {
        let read = self.cursors.values().map(|cursor| cursor.next).min().unwrap_or(u64::MAX);
        let surplus = self.slots.len().saturating_sub(self.kept);
        if surplus > 0 {
            let slowest = self.cursors.values().map(Cursor::next_dense).min();
            let unread = slowest.map_or(surplus, |slowest| self.index(slowest));
            self.let_go(surplus.min(unread).max(surplus.saturating_sub(self.backlog)), read);
        }
        if let Some(pruned) = self.older.prune(read) {
            self.dropped = self.dropped.max(pruned);
        }
        self.limit_older();
        if self.slots.capacity() / 4 > self.slots.len().max(self.kept) {
            self.slots.shrink_to(self.kept);
        }
    }

    /// Drops the first events, of which some subscriber may still have to read those from `read` on.
    fn let_go(&mut self, count: usize, read: u64) {
        let mut last = None;
        for slot in self.slots.drain(..count) {
            // Not only undelivered ones: a slow reader may be about to read them.
            if slot.is_undelivered() || slot.place >= read && slot.is_undelivered_for(1) {
                self.older.push(slot);
            } else {
                self.dropped = self.dropped.max(slot.event.at);
                last = Some(slot.place);
            }
        }
        self.first += count as u64;
        if let Some(last) = last {
            for cursor in self.cursors.values_mut() {
                cursor.missed |= cursor.next_dense() <= last;
            }
        }
    }

    /// Bounds the number of undelivered exits, which grows while there is no subscriber.
    fn limit_older(&mut self) {
        while let Some(slot) = self.older.pop_above(self.backlog) {
            self.dropped = self.dropped.max(slot.event.at);
            for (id, cursor) in &mut self.cursors {
                cursor.missed |= cursor.next <= slot.place && slot.is_undelivered_for(*id);
            }
        }
    }
}

fn hand_out<'a>(cursor: &mut Cursor, slots: impl Iterator<Item = &'a Slot>) -> Vec<Arc<Event>> {
    let events: Vec<_> = slots.map(|slot| Arc::clone(&slot.event)).collect();
    cursor.handed(&events);
    events
}

/// The container, if this event makes its earlier ones obsolete: its caller has read how it ended.
fn makes_obsolete(event: &Event) -> Option<&ContainerKey> {
    match event.kind {
        EventKind::Created(_) | EventKind::Deleted { .. } => Some(&event.container),
        _ => None,
    }
}
