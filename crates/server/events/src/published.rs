//! Events that belong to no container: those of services about their own records, and those that clients publish.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use gantry_domain::{Namespace, Timestamp};

use crate::{measures::Lag, ring::SubscriptionId, subscription::Lagged};

/// How long a published event may be in all, in bytes.
pub const MAX_PUBLISHED: usize = 1 << 20;

/// How much is held for subscribers that have not read it: bytes, and events.
const MOST: (usize, usize) = (16 << 20, 65_536);

/// What an event is estimated to take beside its own bytes.
const OVERHEAD: usize = 256;

/// An event that somebody publishes.
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where.
    pub namespace: Namespace,
    /// A path that says what has happened, such as `/containers/create`.
    pub topic: String,
    /// The type of `value`; both are empty if there is none.
    pub type_url: String,
    /// An encoded message.
    pub value: Vec<u8>,
    /// When it happened, if not now: seconds since the epoch, and nanoseconds.
    pub happened: Option<(i64, u32)>,
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// When, in the order of all events.
    pub at: Timestamp,
    /// What.
    pub publication: Publication,
}

/// More than [`MAX_PUBLISHED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of {0} bytes is too long: at most {MAX_PUBLISHED} are allowed")]
pub struct TooLong(pub usize);

impl fmt::Debug for Publication {
    /// Without the message, which may be a megabyte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, topic, type_url, value, happened } = self;
        f.debug_struct("Publication")
            .field("namespace", namespace)
            .field("topic", topic)
            .field("type_url", type_url)
            .field("length", &value.len())
            .field("happened", happened)
            .finish()
    }
}

impl Publication {
    /// How long it is, if that is not too long.
    pub(crate) fn check(&self) -> Result<usize, TooLong> {
        let length = self.length();
        if length > MAX_PUBLISHED { Err(TooLong(length)) } else { Ok(length) }
    }

    fn length(&self) -> usize {
        self.topic.len() + self.type_url.len() + self.value.len()
    }
}

/// Published events that somebody has yet to read.
pub(crate) struct Feed {
    unread: VecDeque<Unread>,
    /// Place of the first of them.
    first: u64,
    /// What all of them take, and what was taken by those that are gone.
    bytes: usize,
    gone: u64,
    most: (usize, usize),
    readers: HashMap<SubscriptionId, Place>,
    /// Timestamp of the last event that was dropped before every reader had read it.
    dropped: Timestamp,
}

/// An event, and what all those before it took since the server has started.
struct Unread {
    published: Arc<Published>,
    before: u64,
}

struct Place {
    next: u64,
    /// Events that it had to read were dropped.
    missed: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            unread: VecDeque::new(),
            first: 0,
            bytes: 0,
            gone: 0,
            most: MOST,
            readers: HashMap::new(),
            dropped: Timestamp(0),
        }
    }
}

impl Feed {
    #[cfg(test)]
    pub(crate) fn with_most(mut self, most: (usize, usize)) -> Self {
        self.most = most;
        self
    }

    pub(crate) fn subscribe(&mut self, id: SubscriptionId) {
        self.readers.insert(id, Place { next: self.end(), missed: false });
    }

    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        self.readers.remove(&id);
        self.trim();
    }

    pub(crate) fn push(&mut self, published: Arc<Published>) {
        if self.readers.is_empty() {
            return;
        }
        let before = self.gone + self.bytes as u64;
        self.bytes += cost(&published);
        self.unread.push_back(Unread { published, before });
        while self.bytes > self.most.0 || self.unread.len() > self.most.1 {
            let Some(dropped) = self.pop() else { break };
            self.dropped = dropped.at;
            for place in self.readers.values_mut() {
                place.missed |= place.next < self.first;
            }
        }
    }

    /// An error, once, for a reader whose events were dropped before it read them; it can read on after those.
    pub(crate) fn check(&mut self, id: SubscriptionId) -> Result<(), Lagged> {
        match self.readers.get_mut(&id) {
            Some(place) if place.missed => {
                *place = Place { next: self.first, missed: false };
                Err(Lagged { resume_after: self.dropped, in_replay: false })
            }
            _ => Ok(()),
        }
    }

    /// The next events of a reader, up to a moment if there is one. To be called after [`Self::check`].
    pub(crate) fn read(
        &mut self,
        id: SubscriptionId,
        until: Option<Timestamp>,
    ) -> Vec<Arc<Published>> {
        let Some(place) = self.readers.get_mut(&id) else { return Vec::new() };
        let begin = usize::try_from(place.next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let due = |published: &&Arc<Published>| until.is_none_or(|until| published.at < until);
        let unread = self.unread.iter().skip(begin).map(|unread| &unread.published);
        let read: Vec<_> = unread.take_while(due).cloned().collect();
        place.next += read.len() as u64;
        if !read.is_empty() {
            self.trim();
        }
        read
    }

    /// How far a reader is behind. As quick for one that has read nothing as for one that has read all: the writer waits.
    pub(crate) fn lag(&self, id: SubscriptionId) -> Lag {
        let Some(place) = self.readers.get(&id) else { return Lag::default() };
        let next = usize::try_from(place.next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let next = self.unread.get(next);
        let bytes = next.map_or(0, |next| self.gone + self.bytes as u64 - next.before);
        Lag { events: self.end().saturating_sub(place.next.max(self.first)), bytes }
    }

    /// Drops what everybody has read.
    fn trim(&mut self) {
        let read = self.readers.values().map(|place| place.next).min().unwrap_or(u64::MAX);
        while self.first < read && self.pop().is_some() {}
        if self.unread.is_empty() {
            self.unread = VecDeque::new();
        }
    }

    fn pop(&mut self) -> Option<Arc<Published>> {
        let popped = self.unread.pop_front()?.published;
        let bytes = cost(&popped);
        self.bytes -= bytes;
        self.gone += bytes as u64;
        self.first += 1;
        Some(popped)
    }

    fn end(&self) -> u64 {
        self.first + self.unread.len() as u64
    }
}

fn cost(published: &Published) -> usize {
    published.publication.length() + OVERHEAD
}
