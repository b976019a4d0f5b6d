//! `Events`: a subscription as a stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use gantry_api::types;
use tokio_stream::Stream;
use tonic::Status;

use super::{convert, parse, status::BadField};
use crate::{
    connection::{Connections, Follower},
    domain::{ContainerId, Event},
    events::{EventLog, From, Lagged, Subscription},
};

pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<types::Event, Status>> + Send>>;

/// What one subscriber reads.
struct Reader {
    subscription: Subscription,
    only: Option<ContainerId>,
    stored_only: bool,
    /// Live events never end by themselves, so that a server that stops does not wait for them.
    _follower: Option<Follower>,
    batch: VecDeque<Arc<Event>>,
    ended: bool,
}

/// Stored events, then live ones; ends after the stored ones if that is what was asked for.
pub(super) fn stream(
    log: &EventLog,
    request: &types::EventsRequest,
    connections: &Connections,
) -> Result<EventStream, BadField> {
    let only = if request.id.is_empty() { None } else { Some(parse::container_id(&request.id)?) };
    let timestamp = request.timestamp.map(convert::from_timestamp).transpose()?.flatten();
    let from = match timestamp {
        Some(timestamp) => From::After(timestamp),
        None if request.stored_only => {
            return Err(BadField::new("timestamp", "must be given with storedOnly"));
        }
        None => From::Now,
    };
    let reader = Reader {
        subscription: log.subscribe(from),
        only,
        stored_only: request.stored_only,
        _follower: (!request.stored_only).then(|| connections.follower()),
        batch: VecDeque::new(),
        ended: false,
    };
    Ok(Box::pin(futures_util::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|item| (item, reader))
    })))
}

impl Reader {
    async fn next(&mut self) -> Option<Result<types::Event, Status>> {
        loop {
            while let Some(event) = self.batch.pop_front() {
                if self.only.as_ref().is_none_or(|only| event.container.id == *only) {
                    return Some(Ok(convert::event(&event)));
                }
            }
            if self.ended {
                return None;
            }
            match self.read().await {
                Ok(batch) if batch.is_empty() => return None,
                Ok(batch) => self.batch.extend(batch),
                Err(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
            }
        }
    }

    /// The next events; none at the end of the stream.
    async fn read(&mut self) -> Result<Vec<Arc<Event>>, Status> {
        let batch = if self.stored_only {
            self.subscription.stored()
        } else {
            self.subscription.next().await
        };
        batch.map_err(|lagged: Lagged| {
            let resume = convert::timestamp(lagged.resume_after);
            Status::data_loss(format!(
                "too far behind: events up to {resume} were missed; subscribe again from there"
            ))
        })
    }
}
