//! Reads a request's bytes as they arrive, and counts what its fields will cost, before anything is
//! made of them. Nothing is kept but counters, and what the request is about if that is wanted.

use std::sync::Arc;

use super::shape::{Field, Kind, Shape};

/// So much is kept of a name: an id has 128 bytes at most, a digest 135.
const LONGEST_SUBJECT: usize = 256;

/// Why a request is not read on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is too much of a field.
    Field { path: String, problem: String },
    /// These bytes are no message.
    Malformed,
}

/// A request that is being read.
#[derive(Debug)]
pub(super) struct Scan {
    shape: Arc<Shape>,
    /// Of each slot of the shape.
    used: Vec<Used>,
    /// The messages that are being read, outermost first, and at which byte each ends.
    open: Vec<(usize, u64)>,
    /// Bytes read.
    at: u64,
    state: State,
    varint: Varint,
    items: u64,
    wants_subject: bool,
    /// The bytes of the subject that have arrived, and whether they were not asked for yet.
    subject: Vec<u8>,
    subject_is_new: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Used {
    items: u64,
    bytes: u64,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A field's number, and how it is written.
    Key,
    /// A number, whose value does not matter.
    Number,
    /// How many bytes the field has.
    Length(Field),
    /// Bytes whose content does not matter.
    Skipped { end: u64 },
    /// Bytes of the subject.
    Subject { end: u64 },
    /// Varints, all of one field.
    Packed { end: u64, field: Field },
}

impl Scan {
    /// A request of this many bytes.
    pub(super) fn new(shape: Arc<Shape>, length: u64) -> Self {
        Self {
            used: vec![Used::default(); shape.slots.len()],
            shape,
            open: vec![(0, length)],
            at: 0,
            state: State::Key,
            varint: Varint::default(),
            items: 0,
            wants_subject: false,
            subject: Vec::new(),
            subject_is_new: false,
        }
    }

    /// Whether the name of what the request is about is to be kept.
    pub(super) fn with_subject(self, wants_subject: bool) -> Self {
        Self { wants_subject, ..self }
    }

    /// The name of what the request is about, if it has arrived since the last call. A field that comes again counts
    /// again, as for who decodes the request.
    pub(super) fn subject(&mut self) -> Option<String> {
        if !self.subject_is_new || matches!(self.state, State::Subject { .. }) {
            return None;
        }
        self.subject_is_new = false;
        Some(String::from_utf8_lossy(&self.subject).into_owned())
    }

    /// Values of fields so far, each of which costs memory of its own.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Reads on; `bytes` must not exceed the length that was given to [`Self::new`].
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while let Some(first) = bytes.first() {
            let passed = match self.state {
                State::Skipped { end } => self.until(end, bytes).len(),
                State::Subject { end } => {
                    let part = self.until(end, bytes);
                    let room = LONGEST_SUBJECT - self.subject.len();
                    self.subject.extend_from_slice(&part[..part.len().min(room)]);
                    part.len()
                }
                State::Packed { end, field } => {
                    let numbers = self.until(end, bytes);
                    // The last byte of a number has its highest bit clear.
                    self.count(field, numbers.iter().filter(|byte| **byte < 0x80).count() as u64)?;
                    numbers.len()
                }
                state => {
                    if let Some(value) = self.varint.push(*first)? {
                        self.state = self.value(state, value)?;
                    }
                    1
                }
            };
            self.at += passed as u64;
            bytes = &bytes[passed..];
            self.close()?;
        }
        Ok(())
    }

    /// The bytes up to there, or as many as have arrived.
    fn until<'a>(&self, end: u64, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        &bytes[..wanted.min(bytes.len())]
    }

    /// What follows a number whose last byte is the current one.
    fn value(&mut self, state: State, value: u64) -> Result<State, Refusal> {
        let next = self.at + 1;
        match state {
            State::Key => {
                let field = self.shape.field(self.innermost().0, value >> 3);
                match value & 7 {
                    0 => self.count(field, 1).map(|()| State::Number),
                    1 => self.count(field, 1).map(|()| State::Skipped { end: next + 8 }),
                    2 => Ok(State::Length(field)),
                    5 => self.count(field, 1).map(|()| State::Skipped { end: next + 4 }),
                    // Groups, which no message of the contract has.
                    _ => Err(Refusal::Malformed),
                }
            }
            State::Length(field) => {
                let end = next.checked_add(value).ok_or(Refusal::Malformed)?;
                if end > self.innermost().1 {
                    return Err(Refusal::Malformed);
                }
                self.length(field, (value, end))
            }
            State::Number
            | State::Skipped { .. }
            | State::Subject { .. }
            | State::Packed { .. } => Ok(State::Key),
        }
    }

    fn length(&mut self, field: Field, (length, end): (u64, u64)) -> Result<State, Refusal> {
        match field.kind {
            Kind::Message(message) => {
                self.count(field, 1)?;
                self.open.push((message, end));
                Ok(State::Key)
            }
            Kind::Varint => Ok(State::Packed { end, field }),
            Kind::Fixed(width) => {
                self.count(field, length / width)?;
                Ok(State::Skipped { end })
            }
            Kind::Bytes => {
                self.count(field, 1)?;
                self.weigh(field, length)?;
                if self.wants_subject && self.shape.subject == Some(field.slot) {
                    self.subject.clear();
                    self.subject_is_new = true;
                    return Ok(State::Subject { end });
                }
                Ok(State::Skipped { end })
            }
        }
    }

    fn innermost(&self) -> (usize, u64) {
        self.open.last().copied().unwrap_or_default()
    }

    fn count(&mut self, field: Field, items: u64) -> Result<(), Refusal> {
        let used = &mut self.used[field.slot];
        used.items += items;
        self.items += items;
        let most = self.shape.slots[field.slot].bounds.items;
        if used.items > most {
            return self.refuse(field, format!("has more than {most} items"));
        }
        Ok(())
    }

    fn weigh(&mut self, field: Field, length: u64) -> Result<(), Refusal> {
        let used = &mut self.used[field.slot];
        used.bytes = used.bytes.saturating_add(length);
        let all = used.bytes;
        let bounds = self.shape.slots[field.slot].bounds;
        if length > bounds.each {
            let problem =
                format!("has a string of {length} bytes, at most {} are allowed", bounds.each);
            return self.refuse(field, problem);
        }
        if all > bounds.all {
            let problem = format!("has more than {} bytes in all", bounds.all);
            return self.refuse(field, problem);
        }
        Ok(())
    }

    fn refuse(&self, field: Field, problem: String) -> Result<(), Refusal> {
        Err(Refusal::Field { path: self.shape.slots[field.slot].path.clone(), problem })
    }

    /// Closes the messages that end here.
    fn close(&mut self) -> Result<(), Refusal> {
        if let State::Skipped { end } | State::Subject { end } | State::Packed { end, .. } =
            self.state
            && end == self.at
        {
            self.state = State::Key;
        }
        while let Some((_, end)) = self.open.last()
            && *end <= self.at
        {
            let between_fields = matches!(self.state, State::Key) && self.varint.is_empty();
            if *end < self.at || !between_fields {
                return Err(Refusal::Malformed);
            }
            self.open.pop();
        }
        Ok(())
    }
}

/// A number of which some bytes have arrived.
#[derive(Debug, Default)]
struct Varint {
    value: u64,
    bits: u32,
}

impl Varint {
    fn is_empty(&self) -> bool {
        self.bits == 0
    }

    /// The number, once this byte is its last one.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Refusal> {
        if self.bits > 63 {
            return Err(Refusal::Malformed);
        }
        self.value |= u64::from(byte & 0x7f) << self.bits;
        self.bits += 7;
        if byte < 0x80 {
            return Ok(Some(std::mem::take(self).value));
        }
        Ok(None)
    }
}
