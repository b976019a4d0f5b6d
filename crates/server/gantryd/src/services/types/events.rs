//! `Events`: a subscription as a stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use gantry_api::types;
use gantry_domain::{Event, Timestamp};
use gantry_events::{EventLog, Filter, From, Lagged, Subscription};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::{
    Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use super::{NAMESPACE, convert, parse};
use crate::connection::{Connections, Follower};
use crate::rpc::BadField;

pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<types::Event, Status>> + Send>>;

/// What one subscriber reads.
struct Reader {
    subscription: Subscription,
    filter: Filter,
    stored_only: bool,
    /// Live events never end by themselves, so that a server that stops does not wait for them.
    _follower: Option<Follower>,
    /// Among the streams of its connection.
    _counted: Option<OwnedSemaphorePermit>,
    batch: VecDeque<Arc<Event>>,
    ended: bool,
}

/// Stored events, then live ones; ends after the stored ones if that is what was asked for. They count as received if
/// the subscriber `receives` events.
pub(super) fn stream(
    log: &EventLog,
    request: &types::EventsRequest,
    connections: &Connections,
    counted: Option<OwnedSemaphorePermit>,
    receives: bool,
) -> Result<Response<EventStream>, BadField> {
    let id = if request.id.is_empty() { None } else { Some(parse::container_id(&request.id)?) };
    let filter = Filter { namespace: NAMESPACE, id };
    let timestamp = request.timestamp.map(convert::from_timestamp).transpose()?.flatten();
    let from = match timestamp {
        Some(timestamp) => From::After(timestamp),
        None if request.stored_only => {
            return Err(BadField::new("timestamp", "must be given with storedOnly"));
        }
        None => From::Now,
    };
    let subscription = match receives {
        true => log.subscribe(from, filter.clone()),
        false => log.watch(from, NAMESPACE),
    };
    let missing = subscription.missing();
    let reader = Reader {
        subscription,
        filter,
        stored_only: request.stored_only,
        _follower: (!request.stored_only).then(|| connections.follower()),
        _counted: counted,
        batch: VecDeque::new(),
        ended: false,
    };
    let stream = futures_util::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|item| (item, reader))
    });
    let mut response: Response<EventStream> = Response::new(Box::pin(stream));
    if let Some(until) = missing {
        report_missing(until, response.metadata_mut());
    }
    Ok(response)
}

/// Reports that stored events up to then are not kept any more, in the log and in the answer's metadata.
/// An error would not help: a daemon would ask for the same again, for ever.
fn report_missing(until: Timestamp, metadata: &mut MetadataMap) {
    let until = convert::timestamp(until).to_string();
    tracing::warn!(until, "a subscriber asks for events of which some are no longer kept");
    // Digits and some signs of ASCII.
    if let Ok(value) = AsciiMetadataValue::try_from(&*until) {
        metadata.insert(gantry_api::EVENTS_MISSING_METADATA, value);
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<types::Event, Status>> {
        loop {
            while let Some(event) = self.batch.pop_front() {
                if self.filter.matches(&event.container)
                    && let Some(event) = convert::event(&event)
                {
                    return Some(Ok(event));
                }
            }
            if self.ended {
                return None;
            }
            match self.read().await {
                Ok(batch) if batch.is_empty() => return None,
                Ok(batch) => self.batch.extend(batch),
                // The replay goes on with what there is, as it would if the client asked again.
                Err(lagged) if lagged.in_replay => {
                    tracing::warn!(error = %lagged, "a subscriber does not read what is stored");
                }
                Err(lagged) => {
                    self.ended = true;
                    return Some(Err(too_far_behind(lagged)));
                }
            }
        }
    }

    /// The next events; none at the end of the stream.
    async fn read(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        if self.stored_only { self.subscription.stored() } else { self.subscription.next().await }
    }
}

fn too_far_behind(lagged: Lagged) -> Status {
    let resume = convert::timestamp(lagged.resume_after);
    Status::data_loss(format!(
        "too far behind: events up to {resume} were missed; subscribe again from there"
    ))
}
