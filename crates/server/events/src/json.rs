//! The JSON of the journal's lines.

use std::{borrow::Cow, path::Path};

use gantry_domain::{
    ContainerId, ContainerKey, Created, Event, EventKind, Exit, ExitStatus, Generation, Labels,
    Namespace, ProcessId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    published::{Publication, Published},
    record::{DeliveredRange, LAST_TIMESTAMP, Line, Marks},
};

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

/// An event of a container. Ids need no escapes, so they are borrowed from the line.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    at: u64,
    ns: &'a str,
    id: &'a str,
    #[serde(rename = "life")]
    generation: u64,
    #[serde(rename = "type")]
    kind: Type,
    /// Missing if there are none. In lines of servers that did not record them, too.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<Cow<'a, str>>>,
    /// They are longer than events can have, and left out.
    #[serde(default, skip_serializing_if = "is_false")]
    labels_left_out: bool,
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
    /// An exit with neither `code` nor `signal` has an unknown status.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    /// When the process ended; missing if that is `at`, and in lines of earlier servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    exited: Option<u64>,
    /// See [`Marks`].
    #[serde(rename = "had", skip_serializing_if = "Option::is_none")]
    delivered_range: Option<DeliveredRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(default, rename = "told", skip_serializing_if = "is_false")]
    delivered: bool,
}

/// An event that was published.
#[derive(Serialize, Deserialize)]
pub(crate) struct PublishedRecord<'a> {
    at: u64,
    ns: &'a str,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, rename = "url")]
    type_url: Cow<'a, str>,
    /// In hex digits.
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    happened: Option<(i64, u32)>,
}

/// Which events of named namespaces were delivered.
#[derive(Serialize, Deserialize)]
pub(crate) struct DeliveredRecord {
    #[serde(rename = "told")]
    delivered: Vec<u64>,
}

/// What a line's JSON says, if this version knows it.
pub(crate) fn parse(json: &[u8]) -> Option<Line> {
    if let Ok(record) = serde_json::from_slice::<Record<'_>>(json) {
        return Some(Line::Event(record.event()?, record.marks()));
    }
    if let Ok(record) = serde_json::from_slice::<PublishedRecord<'_>>(json) {
        return record.published().map(Line::Published);
    }
    let record: DeliveredRecord = serde_json::from_slice(json).ok()?;
    Some(Line::Delivered(record.delivered))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl<'a> Record<'a> {
    pub(crate) fn of(event: &'a Event, marks: Marks) -> Self {
        let mut record = Self::bare(event);
        record.delivered_range = marks.delivered_range;
        record.gone = marks.gone.map(|gone| gone.0);
        record.lost = marks.lost.map(|lost| lost.0);
        record.delivered = marks.delivered;
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
            labels: match &event.labels {
                Labels::Known(labels) if !labels.is_empty() => {
                    Some(labels.iter().map(|label| Cow::Borrowed(&**label)).collect())
                }
                _ => None,
            },
            labels_left_out: event.labels == Labels::TooLong,
            pid: None,
            process_generation: None,
            host: None,
            created: None,
            path: None,
            code: None,
            signal: None,
            exited: None,
            delivered_range: None,
            gone: None,
            lost: None,
            delivered: false,
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

    /// Ignores marks with a time later than the event's.
    fn marks(&self) -> Marks {
        Marks {
            delivered_range: self.delivered_range.filter(|delivered_range| {
                delivered_range.0 < delivered_range.1 && delivered_range.1 <= self.at
            }),
            gone: self.gone.filter(|gone| *gone <= self.at).map(Timestamp),
            lost: self.lost.filter(|lost| *lost <= self.at).map(Timestamp),
            delivered: self.delivered,
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
            labels: self.labels(),
            kind,
        })
    }

    fn labels(&self) -> Labels {
        if self.labels_left_out {
            return Labels::TooLong;
        }
        let labels = self.labels.iter().flatten();
        // An earlier version may have had more of them.
        Labels::of(&labels.map(|label| label.clone().into_owned()).collect())
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

impl<'a> PublishedRecord<'a> {
    pub(crate) fn of(published: &'a Published) -> Self {
        let Publication { namespace, topic, type_url, value, happened } = &published.publication;
        Self {
            at: published.at.0,
            ns: namespace.as_str(),
            topic: Cow::Borrowed(topic),
            type_url: Cow::Borrowed(type_url),
            value: Cow::Owned(hex(value)),
            happened: *happened,
        }
    }

    fn published(&self) -> Option<Published> {
        let at = Timestamp(self.at);
        let publication = Publication {
            namespace: Namespace::from_record(self.ns)?,
            topic: self.topic.clone().into_owned(),
            type_url: self.type_url.clone().into_owned(),
            value: of_hex(&self.value)?,
            happened: self.happened,
        };
        (at < LAST_TIMESTAMP).then_some(Published { at, publication })
    }
}

impl DeliveredRecord {
    pub(crate) fn of(delivered: &[Timestamp]) -> Self {
        Self { delivered: delivered.iter().map(|at| at.0).collect() }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 0xf)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
