//! A stream of events that survives a restart of the server.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use gantry_api::types::{self, EventsRequest};
use tokio::time::{Sleep, sleep};
use tonic::{Response, Status, Streaming};

use crate::{
    backoff::Backoff,
    call::Absence,
    connection::Connection,
    error::{Error, ErrorKind, Result},
    event::{BEGINNING, Event, EventFilter, now},
    status,
};

const OPERATION: &str = "follow events";

/// A stream of events without gap or repeat, across restarts of the server too.
///
/// After an error the stream can still be used: the next call waits a little, connects again and
/// continues after the last event that was returned. The stream ends only after the stored events, if only
/// those were asked for.
#[derive(Debug)]
pub struct EventStream {
    connection: Connection,
    request: EventsRequest,
    state: State,
    backoff: Backoff,
}

type Subscription = std::result::Result<Response<Streaming<types::Event>>, Status>;

enum State {
    Idle,
    /// After an error.
    Pausing(Pin<Box<Sleep>>),
    Subscribing(Pin<Box<dyn Future<Output = Subscription> + Send>>),
    Open(Box<Streaming<types::Event>>),
    Ended,
}

impl EventStream {
    pub(crate) fn new(connection: Connection, filter: EventFilter) -> EventStream {
        let request = EventsRequest {
            // Always set: a subscription without one would begin whenever it reaches the server.
            timestamp: Some(filter.since.unwrap_or_else(now)),
            stored_only: filter.stored_only,
            id: filter.container.unwrap_or_default(),
        };
        EventStream { connection, request, state: State::Idle, backoff: Backoff::new() }
    }

    /// The next event; `None` at the end of the stored ones, when only those were asked for.
    ///
    /// Nothing is lost when the future is dropped before its end.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.transpose()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            match &mut self.state {
                State::Idle => {
                    let (mut api, request) = (self.connection.api(), self.request.clone());
                    let subscribing = async move { api.events(request).await };
                    self.state = State::Subscribing(Box::pin(subscribing));
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = State::Idle;
                }
                State::Subscribing(subscribing) => match ready!(subscribing.as_mut().poll(cx)) {
                    Ok(stream) => self.state = State::Open(Box::new(stream.into_inner())),
                    Err(status) => return Poll::Ready(Some(Err(failed(status)))),
                },
                State::Open(stream) => {
                    let message = ready!(Pin::new(&mut **stream).poll_next(cx));
                    return Poll::Ready(message.map(|m| m.map(Event::from).map_err(failed)));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

fn failed(status: Status) -> Error {
    status::error(OPERATION, status, None)
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        let next = match ready!(self.poll_message(cx)) {
            None if self.request.stored_only => {
                self.state = State::Ended;
                return Poll::Ready(None);
            }
            None => {
                let message = "the server ended the stream".to_owned();
                Err(Error::new(OPERATION, ErrorKind::Unavailable(message)))
            }
            Some(next) => next,
        };
        match &next {
            Ok(event) => {
                self.request.timestamp = Some(event.time);
                self.backoff.reset();
            }
            Err(_) => self.state = State::Pausing(Box::pin(sleep(self.backoff.next()))),
        }
        Poll::Ready(Some(next))
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Idle => "Idle",
            State::Pausing(_) => "Pausing",
            State::Subscribing(_) => "Subscribing",
            State::Open(_) => "Open",
            State::Ended => "Ended",
        })
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
    let mut absence = Absence::since_now(connection.patience());
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return Ok(events),
            // The stream goes on where it was.
            Err(error) => {
                let away = matches!(error.kind(), ErrorKind::Unavailable(_));
                if !away || !absence.may_go_on(false).await {
                    return Err(error);
                }
            }
        }
    }
}
