//! One event as one line of the journal: the CRC-32 of the rest in eight hex digits, a space, JSON.

use std::{borrow::Cow, io, path::Path};

use gantry_domain::{
    ContainerId, ContainerKey, Created, Event, EventKind, Exit, ExitStatus, Generation, Namespace,
    ProcessId, Timestamp,
};
use serde::{Deserialize, Serialize};

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
    /// Written as it is, but not by this version.
    #[error("not an event that is known here")]
    Unknown,
    #[error("not later than the event before it")]
    OutOfOrder,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Create,
    StartContainer,
    AddProcess,
    StartProcess,
    Exit,
    Pause,
    Resume,
    Oom,
    Checkpoint,
    Delete,
}

/// The JSON. Ids need no escapes, so they are borrowed from the line.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    at: u64,
    ns: &'a str,
    id: &'a str,
    #[serde(rename = "life")]
    generation: u64,
    #[serde(rename = "type")]
    kind: Type,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "plife")]
    process_generation: Option<u64>,
    /// The process's pid on the host, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Cow<'a, Created>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, Path>>,
    /// An exit with neither `code` nor `signal` is one that nobody saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    /// When the process ended; missing if that is `at`, and in lines of earlier servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    exited: Option<u64>,
    /// See [`Marks`].
    #[serde(skip_serializing_if = "Option::is_none")]
    had: Option<Had>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
}

/// State of earlier events, written on the line of a later one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Exits that subscribers have had.
    pub(crate) had: Option<Had>,
    /// The time of the latest dropped event.
    pub(crate) gone: Option<Timestamp>,
}

/// Subscribers have had all exits later than the first moment, and up to the second. Of two that begin
/// with the same moment the later one in the journal counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Had(pub(crate) u64, pub(crate) u64);

impl Had {
    /// This one alone.
    pub(crate) fn only(at: Timestamp) -> Self {
        Self(at.0.saturating_sub(1), at.0)
    }
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// In order; no two have the same timestamp.
    pub events: Vec<Event>,
    /// A torn end is the last damage there is.
    pub damage: Vec<Damage>,
    /// In order, and apart from each other.
    had: Vec<Had>,
    /// No event that was let go of is later.
    pub(crate) gone: Timestamp,
}

impl Lines {
    /// Whether a subscriber has had the event.
    pub(crate) fn was_had(&self, event: &Event) -> bool {
        let after = self.had.partition_point(|had| had.0 < event.at.0);
        self.had[..after].last().is_some_and(|had| event.at.0 <= had.1)
    }

    fn push(&mut self, event: Event, marks: Marks) {
        self.gone = self.gone.max(marks.gone.unwrap_or_default());
        if let Some(had) = marks.had {
            match self.had.last_mut() {
                Some(last) if last.0 == had.0 => *last = had,
                Some(last) if had.0 < last.1 => {}
                _ => self.had.push(had),
            }
        }
        self.events.push(event);
    }
}

/// The event's line, with its end.
pub(crate) fn encode(event: &Event, marks: Marks) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(192);
    line.resize(PREFIX, b' ');
    let mut record = Record::of(event);
    record.had = marks.had;
    record.gone = marks.gone.map(|gone| gone.0);
    serde_json::to_writer(&mut line, &record)?;
    let checksum = checksum(&line[PREFIX..]);
    line[..checksum.len()].copy_from_slice(&checksum);
    line.push(b'\n');
    Ok(line)
}

/// Reads a journal's events, and whatever else is in it.
pub fn recover(journal: &[u8]) -> Lines {
    let mut lines = Lines::default();
    let mut offset = 0;
    for line in journal.split_inclusive(|byte| *byte == b'\n') {
        match parse(line, lines.events.last()) {
            Ok((event, marks)) => {
                if lines.damage.last().is_some_and(|damage| damage.end() == offset) {
                    // Whatever was there is earlier than this one.
                    lines.gone = lines.gone.max(Timestamp(event.at.0.saturating_sub(1)));
                }
                lines.push(event, marks);
            }
            Err(fault) => lines.damage.push(Damage { offset, length: line.len(), fault }),
        }
        offset += line.len();
    }
    lines
}

fn parse(line: &[u8], before: Option<&Event>) -> Result<(Event, Marks), Fault> {
    let line = line.strip_suffix(b"\n").ok_or(Fault::Torn)?;
    let (prefix, json) = line.split_at_checked(PREFIX).ok_or(Fault::Checksum)?;
    if prefix.strip_suffix(b" ") != Some(&checksum(json)) {
        return Err(Fault::Checksum);
    }
    let record: Record<'_> = serde_json::from_slice(json).map_err(|_| Fault::Unknown)?;
    let event = record.event().ok_or(Fault::Unknown)?;
    match before {
        Some(before) if event.at <= before.at => Err(Fault::OutOfOrder),
        _ => Ok((event, record.marks())),
    }
}

impl Damage {
    pub(crate) fn end(&self) -> usize {
        self.offset + self.length
    }
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

impl<'a> Record<'a> {
    fn of(event: &'a Event) -> Self {
        let mut record = Self::bare(event);
        match &event.kind {
            EventKind::Created(created) => {
                record.kind = Type::Create;
                record.created = Some(Cow::Borrowed(&**created));
            }
            EventKind::ContainerStarted { pid } => record.host = Some(*pid),
            EventKind::ProcessAdded { process } => {
                record.kind = Type::AddProcess;
                record.pid = Some(process.as_str());
            }
            EventKind::ProcessStarted { process, generation, pid } => {
                record.kind = Type::StartProcess;
                record.set_process(process, *generation, *pid);
            }
            EventKind::Exited { process, generation, pid, exit } => {
                record.kind = Type::Exit;
                record.set_process(process, *generation, *pid);
                record.set_exit(*exit);
            }
            EventKind::Paused => record.kind = Type::Pause,
            EventKind::Resumed => record.kind = Type::Resume,
            EventKind::OutOfMemory => record.kind = Type::Oom,
            EventKind::Checkpointed { path } => {
                record.kind = Type::Checkpoint;
                record.path = Some(Cow::Borrowed(&**path));
            }
            EventKind::Deleted { pid, exit } => {
                record.kind = Type::Delete;
                record.host = Some(*pid);
                record.set_exit(*exit);
            }
        }
        record.host = record.host.filter(|pid| *pid > 0);
        record
    }

    fn bare(event: &'a Event) -> Self {
        Self {
            at: event.at.0,
            ns: event.container.namespace.as_str(),
            id: event.container.id.as_str(),
            generation: event.generation.0,
            kind: Type::StartContainer,
            pid: None,
            process_generation: None,
            host: None,
            created: None,
            path: None,
            code: None,
            signal: None,
            exited: None,
            had: None,
            gone: None,
        }
    }

    fn set_process(&mut self, process: &'a ProcessId, generation: Generation, pid: u32) {
        self.pid = Some(process.as_str());
        self.process_generation = Some(generation.0);
        self.host = Some(pid);
    }

    fn set_exit(&mut self, exit: Exit) {
        match exit.status {
            ExitStatus::Code(code) => self.code = Some(code),
            ExitStatus::Signal(signal) => self.signal = Some(signal),
            ExitStatus::Unknown => {}
        }
        self.exited = Some(exit.at.0).filter(|at| *at != self.at);
    }

    /// Ignores marks from the future.
    fn marks(&self) -> Marks {
        Marks {
            had: self.had.filter(|had| had.0 < had.1 && had.1 <= self.at),
            gone: self.gone.filter(|gone| *gone <= self.at).map(Timestamp),
        }
    }

    fn event(&self) -> Option<Event> {
        let pid = self.host.unwrap_or(0);
        let kind = match self.kind {
            Type::Create => EventKind::Created(Box::new(self.created.clone()?.into_owned())),
            Type::StartContainer => EventKind::ContainerStarted { pid },
            Type::AddProcess => {
                EventKind::ProcessAdded { process: ProcessId::parse(self.pid?).ok()? }
            }
            Type::StartProcess => {
                let (process, generation) = self.process()?;
                EventKind::ProcessStarted { process, generation, pid }
            }
            Type::Exit => {
                let (process, generation) = self.process()?;
                EventKind::Exited { process, generation, pid, exit: self.exit()? }
            }
            Type::Checkpoint => EventKind::Checkpointed { path: self.path.clone()?.into_owned() },
            Type::Delete => EventKind::Deleted { pid, exit: self.exit()? },
            Type::Pause => EventKind::Paused,
            Type::Resume => EventKind::Resumed,
            Type::Oom => EventKind::OutOfMemory,
        };
        let at = Timestamp(self.at);
        let container = ContainerKey {
            namespace: Namespace::from_record(self.ns)?,
            id: ContainerId::parse(self.id).ok()?,
        };
        (at < LAST_TIMESTAMP).then_some(Event {
            at,
            container,
            generation: Generation(self.generation),
            kind,
        })
    }

    fn process(&self) -> Option<(ProcessId, Generation)> {
        Some((ProcessId::parse(self.pid?).ok()?, Generation(self.process_generation?)))
    }

    fn exit(&self) -> Option<Exit> {
        let at = Timestamp(self.exited.unwrap_or(self.at));
        Some(Exit { status: self.status()?, at })
    }

    fn status(&self) -> Option<ExitStatus> {
        match (self.code, self.signal) {
            (Some(code), None) => Some(ExitStatus::Code(code)),
            (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
            (None, None) => Some(ExitStatus::Unknown),
            (Some(_), Some(_)) => None,
        }
    }
}

#[cfg(test)]
#[path = "tests_record.rs"]
mod tests;
