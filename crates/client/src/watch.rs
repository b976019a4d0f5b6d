//! Follows containers for somebody who only looks on: from a cursor, across restarts of both sides.

use gantry_api::{
    EXIT_STATUS_UNKNOWN, INIT, Timestamp,
    v1::{
        self, EventType, WatchRequest, WatchResponse,
        container_service_client::ContainerServiceClient, watch_request::Begin,
        watch_response::Message,
    },
};
use tokio::time;
use tonic::{Code, Status, Streaming};

use crate::{
    backoff::Backoff,
    client::Client,
    connection::Connection,
    error::{Error, ErrorKind, Result},
    event::{self, BEGINNING, Event, EventFilter, EventKind},
    event_stream::EventStream,
    status,
};

const OPERATION: &str = "watch containers";

/// What a [`Watch`] sees.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watched {
    /// Something has happened.
    Event(Event),
    /// Events up to this moment are missing: the caller was away too long or too slow. All later ones follow. Servers
    /// without `gantry.v1` do not say so.
    Gap(Timestamp),
}

/// The events of the containers of `types.API`, see [`Client::watch`].
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
    place: Place,
    source: Source,
    backoff: Backoff,
    /// The last attempt has failed.
    pause: bool,
}

/// A place in the log of events.
#[derive(Debug, Clone)]
struct Place {
    /// Of the last event, or of the beginning: for servers without cursors.
    time: Timestamp,
    /// As the server has given it.
    cursor: Option<String>,
}

#[derive(Debug)]
enum Source {
    None,
    Watch(Box<Streaming<WatchResponse>>),
    /// Of a server without `gantry.v1`.
    Events(Box<EventStream>),
}

impl Client {
    /// Watches the containers of `types.API` from now on, or from where another watch was: see [`Watch::cursor`].
    ///
    /// Unlike [`Client::events`] this takes nothing from anybody: with a server that has `gantry.v1`, what is watched does not
    /// count as received, and what is missing is reported. Other servers are asked for their events.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the cursor is not one.
    pub fn watch(&self, after: Option<&str>) -> Result<Watch> {
        let place = match after {
            None => Place { time: event::now(), cursor: None },
            Some(cursor) => Place::parse(cursor).ok_or_else(|| {
                let message = format!("cursor: {cursor:?} is not one");
                let violations = Vec::new();
                Error::new(OPERATION, ErrorKind::InvalidArgument { message, violations })
            })?,
        };
        let connection = self.connection.clone();
        let (source, backoff) = (Source::None, Backoff::new());
        Ok(Watch { connection, place, source, backoff, pause: false })
    }
}

impl Watch {
    /// What happens next. After an error the watch can still be used: it waits a little, connects again, and goes on where it
    /// was. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Watched> {
        loop {
            let watched = match &mut self.source {
                Source::None => {
                    if self.pause {
                        time::sleep(self.backoff.next()).await;
                    }
                    self.pause = true;
                    self.source = self.begin().await?;
                    continue;
                }
                Source::Watch(stream) => match stream.message().await {
                    Ok(Some(response)) => self.place.pass(response),
                    Ok(None) => return Err(self.lost(Status::unavailable("the stream has ended"))),
                    Err(status) => return Err(self.lost(status)),
                },
                Source::Events(events) => match events.next().await {
                    Ok(Some(event)) => {
                        self.place = Place { time: event.time, cursor: None };
                        Some(Watched::Event(event))
                    }
                    Ok(None) => return Err(self.lost(Status::unavailable("the stream has ended"))),
                    Err(error) => {
                        // The next server may have more to offer.
                        self.source = Source::None;
                        return Err(error);
                    }
                },
            };
            self.pause = false;
            self.backoff.reset();
            if let Some(watched) = watched {
                return Ok(watched);
            }
        }
    }

    /// The place after the last event that was returned, for [`Client::watch`], also of another process.
    pub fn cursor(&self) -> String {
        let Place { time, cursor } = &self.place;
        format!("{}.{:09}/{}", time.seconds, time.nanos, cursor.as_deref().unwrap_or_default())
    }

    async fn begin(&self) -> Result<Source> {
        let filter = v1::Filter { namespaces: vec![String::new()], ..v1::Filter::default() };
        let begin = match &self.place.cursor {
            Some(cursor) => Begin::AfterCursor(cursor.clone()),
            None => Begin::AfterTime(self.place.time),
        };
        let begin = Some(begin);
        let request = WatchRequest { begin, filter: Some(filter), ..WatchRequest::default() };
        let mut service = ContainerServiceClient::new(self.connection.channel());
        match service.watch(request).await {
            Ok(stream) => Ok(Source::Watch(Box::new(stream.into_inner()))),
            Err(status) if status.code() == Code::Unimplemented => {
                let filter = EventFilter::default().since(self.place.time);
                Ok(Source::Events(Box::new(EventStream::new(self.connection.clone(), filter))))
            }
            Err(status) => Err(status::error(OPERATION, status, None)),
        }
    }

    fn lost(&mut self, status: Status) -> Error {
        self.source = Source::None;
        status::error(OPERATION, status, None)
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (time, cursor) = text.split_once('/')?;
        let (seconds, nanos) = time.split_once('.')?;
        let time = Timestamp { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? };
        Some(Self { time, cursor: Some(cursor.to_owned()).filter(|cursor| !cursor.is_empty()) })
    }

    /// Goes on after a message; what that says.
    fn pass(&mut self, response: WatchResponse) -> Option<Watched> {
        self.cursor = Some(response.cursor);
        let watched = match response.message? {
            Message::Event(event) => Watched::Event(of_v1(event)),
            Message::Gap(gap) => Watched::Gap(gap.until.unwrap_or(BEGINNING)),
            Message::Heartbeat(_) => return None,
        };
        self.time = match &watched {
            Watched::Event(event) => event.time,
            Watched::Gap(until) => *until,
        };
        Some(watched)
    }
}

fn of_v1(event: v1::Event) -> Event {
    let r#type = event.r#type();
    let process = event.process_id;
    let kind = match r#type {
        EventType::Started if process == INIT => EventKind::Started,
        EventType::Started => EventKind::ProcessStarted { process },
        EventType::Exited => {
            let status = event.exit.and_then(|exit| exit.status);
            EventKind::Exited { process, status: status.unwrap_or(EXIT_STATUS_UNKNOWN) }
        }
        EventType::Paused => EventKind::Paused,
        EventType::Resumed => EventKind::Resumed,
        EventType::OutOfMemory => EventKind::OutOfMemory,
        other => EventKind::Other(other.as_str_name().to_owned()),
    };
    Event { container: event.container_id, kind, time: event.time.unwrap_or(BEGINNING) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place_at_every_kind_of_server() {
        for (text, seconds, nanos, cursor) in [
            ("7.000000009/", 7, 9, None),
            ("1700000000.123456789/00ff", 1_700_000_000, 123_456_789, Some("00ff")),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.time, Timestamp { seconds, nanos });
            assert_eq!(place.cursor.as_deref(), cursor);
        }
        for bad in ["", "7", "7.9", "x.9/", "00ff", "/"] {
            assert!(Place::parse(bad).is_none(), "{bad:?}");
        }
    }
}
