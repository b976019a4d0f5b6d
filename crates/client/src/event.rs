//! Events as a daemon sees them, and a stream of them that survives a restart of the server.

use std::{cmp::Ordering, time::SystemTime};

use gantry_api::{
    Timestamp, event_type,
    types::{self, EventsRequest},
};
use tonic::Streaming;

use crate::{
    backoff::Backoff,
    connection::Connection,
    error::{Error, ErrorKind, Result},
    status::classify,
};

const OPERATION: &str = "follow events";

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

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only events strictly later than this. Default: now.
    pub since: Option<Timestamp>,
    /// Only events of this container.
    pub container: Option<String>,
    /// End after the events that are already stored.
    pub stored_only: bool,
}

/// A stream of events without gap or repeat, across restarts of the server too.
///
/// After an error the stream can still be used: the next call waits a little, connects again and
/// goes on behind the last event that was returned.
#[derive(Debug)]
pub struct EventStream {
    connection: Connection,
    request: EventsRequest,
    stream: Option<Streaming<types::Event>>,
    failed: bool,
    backoff: Backoff,
}

impl EventStream {
    pub(crate) fn new(connection: Connection, filter: EventFilter) -> EventStream {
        let request = EventsRequest {
            // Always given: a subscription without one would begin whenever it reaches the server.
            timestamp: Some(filter.since.unwrap_or_else(now)),
            stored_only: filter.stored_only,
            id: filter.container.unwrap_or_default(),
        };
        EventStream { connection, request, stream: None, failed: false, backoff: Backoff::new() }
    }

    /// The next event; `None` at the end of the stored ones, when only those were asked for.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        if self.failed {
            self.backoff.wait().await;
            self.failed = false;
        }
        let next = self.receive().await;
        if next.is_err() {
            self.stream = None;
            self.failed = true;
        }
        next
    }

    async fn receive(&mut self) -> Result<Option<Event>> {
        let failed = |status| Error::new(OPERATION, classify(&status, None));
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let answer = self.connection.api().events(self.request.clone()).await;
                self.stream.insert(answer.map_err(failed)?.into_inner())
            }
        };
        match stream.message().await.map_err(failed)? {
            Some(event) => {
                let event = Event::from(event);
                self.request.timestamp = Some(event.time);
                self.backoff.reset();
                Ok(Some(event))
            }
            None if self.request.stored_only => Ok(None),
            None => {
                let message = "the server ended the stream".to_owned();
                Err(Error::new(OPERATION, ErrorKind::Unavailable(message)))
            }
        }
    }
}

/// Reads all stored events of a container, or of all containers, oldest first.
pub(crate) async fn stored(connection: &Connection, container: Option<&str>) -> Result<Vec<Event>> {
    let filter = EventFilter {
        since: Some(BEGINNING),
        container: container.map(str::to_owned),
        stored_only: true,
    };
    let mut stream = EventStream::new(connection.clone(), filter);
    let mut events = Vec::new();
    while let Some(event) = stream.next().await? {
        events.push(event);
    }
    Ok(events)
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
