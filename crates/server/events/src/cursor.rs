//! How far a subscription has read, and what its subscriber has surely received.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use gantry_domain::Event;

use crate::filter::Wanted;

/// How many events of a replay may be on their way: in the buffers of the connection, or handed to
/// a subscriber that dies before it looks at them. A client of 2017 takes 64 KiB before it reads,
/// some 700 events.
const IN_FLIGHT: usize = 4096;

/// Events are counted in groups of this size, or more.
const GROUP: usize = 256;

pub(crate) struct Cursor {
    /// Place of the next event.
    pub(crate) next: u64,
    /// Before this place it reads only events that are kept because nobody else has received them.
    pub(crate) dense: u64,
    /// Where the log ended when it began.
    pub(crate) stored_end: u64,
    /// What its subscriber asks for.
    pub(crate) wanted: Wanted,
    /// Events it had to read were dropped.
    pub(crate) missed: bool,
    /// Its subscriber got `Lagged` and has read nothing since.
    pub(crate) lagged: bool,
    /// Stored events before this place are recorded as received.
    stored_delivered: u64,
    /// Live events before this place are recorded as received.
    live_delivered: u64,
    /// Events of the replay, and after, that may be on their way: where each group ends, its size.
    in_flight: VecDeque<(u64, usize)>,
    count: usize,
}

impl Cursor {
    /// One that begins to read at `next`, and everything from `dense` on.
    pub(crate) fn new(next: u64, dense: u64, stored_end: u64, wanted: Wanted) -> Self {
        Self {
            next,
            dense,
            stored_end,
            wanted,
            missed: false,
            lagged: false,
            stored_delivered: next,
            live_delivered: stored_end,
            in_flight: VecDeque::new(),
            count: 0,
        }
    }

    /// One that begins with what nobody has received, of what is before `end`. All it reads counts as
    /// received when its subscriber asks for more.
    pub(crate) fn of_undelivered(end: u64, wanted: Wanted) -> Self {
        let mut cursor = Self::new(0, end, end, wanted);
        (cursor.stored_delivered, cursor.live_delivered) = (end, 0);
        cursor
    }

    /// The next place of those that it reads without a gap.
    pub(crate) fn next_dense(&self) -> u64 {
        self.next.max(self.dense)
    }

    /// Its subscriber was handed everything before the `next` place; `events` since the last call.
    pub(crate) fn handed(&mut self, events: &[Arc<Event>]) {
        self.lagged = false;
        if self.stored_delivered == self.stored_end {
            return;
        }
        let count = events.iter().filter(|event| self.wanted.includes(event)).count();
        if count == 0 {
            return;
        }
        self.count += count;
        match self.in_flight.back_mut() {
            Some((end, group)) if *group < GROUP => (*end, *group) = (self.next, *group + count),
            _ => self.in_flight.push_back((self.next, count)),
        }
    }

    /// Places of received events that are not recorded yet. To be called when the subscriber asks for more:
    /// live events handed out before are received then. A replay can be handed out much faster than it is
    /// read; its events count once they can no longer be in flight.
    pub(crate) fn take_delivered(&mut self) -> [Range<u64>; 2] {
        let stored = self.stored_delivered;
        while let Some((end, group)) = self.in_flight.front().copied()
            && self.count - group >= IN_FLIGHT
        {
            self.in_flight.pop_front();
            self.count -= group;
            self.stored_delivered = end.min(self.stored_end);
        }
        if self.stored_delivered == self.stored_end {
            self.in_flight = VecDeque::new();
            self.count = 0;
        }
        let live = self.live_delivered;
        self.live_delivered = self.next.max(live);
        [stored..self.stored_delivered, live..self.live_delivered]
    }

    /// As [`Self::take_delivered`], for stored events, once the subscriber has read all of them.
    pub(crate) fn take_stored(&mut self) -> Range<u64> {
        let stored = self.stored_delivered;
        self.stored_delivered = self.stored_end;
        stored..self.stored_end
    }
}
