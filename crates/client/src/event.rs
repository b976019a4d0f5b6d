//! Events as a daemon sees them.

use std::{cmp::Ordering, time::SystemTime};

use gantry_api::{Timestamp, event_type, types};

/// Before every event.
pub(crate) const BEGINNING: Timestamp = Timestamp { seconds: 0, nanos: 0 };

pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

pub(crate) fn compare(a: &Timestamp, b: &Timestamp) -> Ordering {
    (a.seconds, a.nanos).cmp(&(b.seconds, b.nanos))
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Id of the container.
    pub container: String,
    /// What happened.
    pub kind: EventKind,
    /// Unique and strictly increasing at one server.
    pub time: Timestamp,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Its first process was started.
    Started,
    /// A further process was started in it.
    ProcessStarted {
        /// Id of the process.
        process: String,
    },
    /// A process ended. That of "init" is the last event of a container's life.
    Exited {
        /// Id of the process.
        process: String,
        /// Exit code, 128+n after signal n, 255 when it could not be known.
        status: u32,
    },
    /// Its processes were frozen.
    Paused,
    /// Its processes were thawed.
    Resumed,
    /// The kernel killed one of its processes because the memory limit was reached.
    OutOfMemory,
    /// A type that this version does not know.
    Other(String),
}

impl Event {
    /// For the tests of what takes one.
    pub fn new(container: impl Into<String>, kind: EventKind, time: Timestamp) -> Event {
        Event { container: container.into(), kind, time }
    }
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Event {
        let kind = match event.r#type.as_str() {
            // Its `pid` is empty; earlier servers said "init".
            event_type::START_CONTAINER => EventKind::Started,
            event_type::START_PROCESS => EventKind::ProcessStarted { process: event.pid },
            event_type::EXIT => EventKind::Exited { process: event.pid, status: event.status },
            event_type::PAUSE => EventKind::Paused,
            event_type::RESUME => EventKind::Resumed,
            event_type::OOM => EventKind::OutOfMemory,
            _ => EventKind::Other(event.r#type),
        };
        Event { container: event.id, kind, time: event.timestamp.unwrap_or(BEGINNING) }
    }
}

/// Which events to read: of all containers and from now on, unless something else is said.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EventFilter {
    /// Only events strictly later than this. Default: now.
    pub since: Option<Timestamp>,
    /// Only events of this container.
    pub container: Option<String>,
    /// End after the events that are already stored.
    pub stored_only: bool,
}

impl EventFilter {
    /// Only events strictly later than this.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Only events of this container.
    #[must_use]
    pub fn container(mut self, id: impl Into<String>) -> Self {
        self.container = Some(id.into());
        self
    }

    /// End after the events that are already stored.
    #[must_use]
    pub fn stored_only(mut self) -> Self {
        self.stored_only = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_is_translated() {
        let wire = types::Event {
            r#type: "exit".into(),
            id: "web".into(),
            status: 137,
            pid: "init".into(),
            timestamp: Some(Timestamp { seconds: 7, nanos: 9 }),
        };
        let event = Event::from(wire.clone());
        assert_eq!(event.kind, EventKind::Exited { process: "init".into(), status: 137 });
        assert_eq!(event.time, Timestamp { seconds: 7, nanos: 9 });
        let odd = types::Event { r#type: "live".into(), ..wire };
        assert_eq!(Event::from(odd).kind, EventKind::Other("live".into()));
    }

    #[test]
    fn a_start_is_one_with_and_without_the_name_of_its_process() {
        for pid in ["", "init"] {
            let (r#type, id) = ("start-container".to_owned(), "web".to_owned());
            let wire = types::Event { r#type, id, pid: pid.to_owned(), ..types::Event::default() };
            assert_eq!(Event::from(wire).kind, EventKind::Started);
        }
    }

    #[test]
    fn timestamps_have_an_order() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(compare(&at(1, 9), &at(2, 0)), Ordering::Less);
        assert_eq!(compare(&at(2, 1), &at(2, 0)), Ordering::Greater);
    }
}
