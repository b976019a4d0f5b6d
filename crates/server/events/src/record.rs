//! One event as one line of the journal: the CRC-32 of the rest in eight hex digits, a space, JSON.

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use gantry_domain::{Event, Generation, Labels, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    json::{self, DeliveredRecord, PublishedRecord, Record},
    published::Published,
};

/// Checksum and space.
const PREFIX: usize = 9;

/// The last timestamp that a journal may hold, in the year 2262. A record beyond it would leave no
/// room for the ones after it.
pub(crate) const LAST_TIMESTAMP: Timestamp = Timestamp(i64::MAX.unsigned_abs());

/// A stretch of the journal that is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins in the file.
    pub offset: usize,
    /// Its length, with the end of the line if there is one.
    pub length: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Fault {
    /// The last line was not written to its end.
    #[error("torn")]
    Torn,
    #[error("its checksum does not match")]
    Checksum,
    /// Its checksum matches, but this version does not know such an event.
    #[error("not an event that this version knows")]
    Unknown,
    #[error("not later than the event before it")]
    OutOfOrder,
}

/// State of earlier events, written on the line of a later one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Exits that were delivered.
    pub(crate) delivered_range: Option<DeliveredRange>,
    /// The time of the latest dropped event of the namespace of `types.API`, or of the named ones, as this event's is.
    pub(crate) gone: Option<Timestamp>,
    /// Events of any namespace may have been lost up to this moment, with the file that was the journal then.
    pub(crate) lost: Option<Timestamp>,
    /// This very event was delivered, which is of a named namespace.
    pub(crate) delivered: bool,
}

/// A line that can be read.
pub(crate) enum Line {
    Event(Event, Marks),
    Published(Published),
    /// Events of named namespaces that were delivered.
    Delivered(Vec<u64>),
}

/// A range of time: all exits of `types.API` later than the first moment, and up to the second, were delivered. Of two
/// ranges that begin with the same moment the later one in the journal counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredRange(pub(crate) u64, pub(crate) u64);

impl DeliveredRange {
    /// The range of this exit alone.
    pub(crate) fn only(at: Timestamp) -> Self {
        Self(at.0.saturating_sub(1), at.0)
    }
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Of containers, in order; no two have the same timestamp.
    pub events: Vec<Event>,
    /// Of no container, also in the order of time.
    pub published: Vec<Published>,
    /// How many lines say which events were delivered.
    pub receipts: usize,
    /// A torn end is the last damage there is.
    pub damage: Vec<Damage>,
    /// In order, and apart from each other.
    delivered_range: Vec<DeliveredRange>,
    /// Events of named namespaces that were delivered.
    delivered: BTreeSet<u64>,
    /// No dropped event of the namespace of `types.API` is later.
    pub(crate) gone: Timestamp,
    /// No dropped event of a named namespace is later.
    pub(crate) gone_named: Timestamp,
    /// No event comes after the last damage. A line that was not written to its end is none.
    pub(crate) ends_damaged: bool,
}

impl Lines {
    /// Whether the event was delivered.
    pub(crate) fn was_delivered(&self, event: &Event) -> bool {
        if !event.container.namespace.is_types_api() {
            return self.delivered.contains(&event.at.0);
        }
        let after =
            self.delivered_range.partition_point(|delivered_range| delivered_range.0 < event.at.0);
        self.delivered_range[..after]
            .last()
            .is_some_and(|delivered_range| event.at.0 <= delivered_range.1)
    }

    /// How many lines could be read.
    pub fn count(&self) -> usize {
        self.events.len() + self.published.len() + self.receipts
    }

    /// The time of the last event.
    pub(crate) fn last(&self) -> Timestamp {
        let event = self.events.last().map(|event| event.at);
        let published = self.published.last().map(|published| published.at);
        event.max(published).unwrap_or_default()
    }

    /// Events of any namespace may be missing up to this moment.
    pub(crate) fn all_gone(&mut self, until: Timestamp) {
        self.gone = self.gone.max(until);
        self.gone_named = self.gone_named.max(until);
    }

    fn push(&mut self, event: Event, marks: Marks) {
        self.all_gone(marks.lost.unwrap_or_default());
        let gone = match event.container.namespace.is_types_api() {
            true => &mut self.gone,
            false => &mut self.gone_named,
        };
        *gone = marks.gone.unwrap_or_default().max(*gone);
        if let Some(delivered_range) = marks.delivered_range {
            match self.delivered_range.last_mut() {
                Some(last) if last.0 == delivered_range.0 => *last = delivered_range,
                Some(last) if delivered_range.0 < last.1 => {}
                _ => self.delivered_range.push(delivered_range),
            }
        }
        if marks.delivered {
            self.delivered.insert(event.at.0);
        }
        self.events.push(event);
    }
}

/// The event's line, with its end.
pub(crate) fn encode(event: &Event, marks: Marks) -> io::Result<Vec<u8>> {
    line(&Record::of(event, marks))
}

/// The line of an event that was published.
pub(crate) fn encode_published(published: &Published) -> io::Result<Vec<u8>> {
    line(&PublishedRecord::of(published))
}

/// A line that says which events of named namespaces were delivered.
pub(crate) fn encode_delivered(delivered: &[Timestamp]) -> io::Result<Vec<u8>> {
    line(&DeliveredRecord::of(delivered))
}

fn line(record: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(192);
    line.resize(PREFIX, b' ');
    serde_json::to_writer(&mut line, record)?;
    let checksum = checksum(&line[PREFIX..]);
    line[..checksum.len()].copy_from_slice(&checksum);
    line.push(b'\n');
    Ok(line)
}

/// Reads a journal's events, and whatever else is in it.
pub fn recover(journal: &[u8]) -> Lines {
    let mut lines = Lines::default();
    let mut offset = 0;
    // As before the restart, all events of a container share its labels.
    let mut labels = HashMap::new();
    for line in journal.split_inclusive(|byte| *byte == b'\n') {
        match parse(line, lines.last()) {
            Ok(Line::Event(mut event, marks)) => {
                share_labels(&mut labels, &mut event);
                if std::mem::take(&mut lines.ends_damaged) {
                    // Whatever was there is earlier than this one.
                    lines.all_gone(Timestamp(event.at.0.saturating_sub(1)));
                }
                lines.push(event, marks);
            }
            Ok(Line::Published(published)) => lines.published.push(published),
            Ok(Line::Delivered(delivered)) => {
                lines.receipts += 1;
                lines.delivered.extend(delivered);
            }
            Err(fault) => {
                lines.ends_damaged |= fault != Fault::Torn;
                lines.damage.push(Damage { offset, length: line.len(), fault });
            }
        }
        offset += line.len();
    }
    lines
}

fn share_labels(shared: &mut HashMap<Generation, Labels>, event: &mut Event) {
    if event.labels.is_empty() {
        return;
    }
    let known = shared.entry(event.generation).or_default();
    if *known == event.labels {
        event.labels = known.clone();
    } else {
        *known = event.labels.clone();
    }
}

fn parse(line: &[u8], last: Timestamp) -> Result<Line, Fault> {
    let line = line.strip_suffix(b"\n").ok_or(Fault::Torn)?;
    let (prefix, json) = line.split_at_checked(PREFIX).ok_or(Fault::Checksum)?;
    if prefix.strip_suffix(b" ") != Some(&checksum(json)) {
        return Err(Fault::Checksum);
    }
    let line = json::parse(json).ok_or(Fault::Unknown)?;
    let at = match &line {
        Line::Event(event, _) => event.at,
        Line::Published(published) => published.at,
        Line::Delivered(_) => return Ok(line),
    };
    if at > last { Ok(line) } else { Err(Fault::OutOfOrder) }
}

/// CRC-32 in lower-case hex digits.
fn checksum(json: &[u8]) -> [u8; 8] {
    let crc = crc32fast::hash(json);
    let mut shift = u32::BITS;
    [(); 8].map(|()| {
        shift -= 4;
        b"0123456789abcdef"[(crc >> shift & 0xf) as usize]
    })
}

#[cfg(test)]
mod tests;
