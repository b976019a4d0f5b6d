//! `Watch` as a stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use gantry_api::v1::{EventType, Gap, Heartbeat, WatchResponse, watch_response::Message};
use gantry_domain::{Event, Timestamp};
use gantry_events::{Batch, Watcher};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{
    messages,
    parse::{Wanted, cursor},
};
use crate::services::time::timestamp;

pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// What one caller reads.
pub(super) struct Watch {
    pub(super) watcher: Watcher,
    pub(super) wanted: Wanted,
    /// All if empty.
    pub(super) types: Vec<EventType>,
    pub(super) heartbeat: Duration,
    /// Among the streams of its connection.
    pub(super) _counted: Option<OwnedSemaphorePermit>,
}

struct Reader {
    watch: Watch,
    batch: VecDeque<Arc<Event>>,
    /// Of the last event that was passed on, or passed over.
    position: Timestamp,
    next_heartbeat: Instant,
}

/// Begins with a heartbeat, so that the caller knows where the stream begins.
pub(super) fn stream(watch: Watch) -> WatchStream {
    let (position, next_heartbeat) = (watch.watcher.position(), Instant::now() + watch.heartbeat);
    let first = response(position, Message::Heartbeat(Heartbeat {}));
    let reader = Reader { watch, batch: VecDeque::new(), position, next_heartbeat };
    let rest = futures_util::stream::unfold(reader, |mut reader| async move {
        let message = reader.next().await;
        reader.next_heartbeat = Instant::now() + reader.watch.heartbeat;
        Some((response(reader.position, message), reader))
    });
    Box::pin(tokio_stream::once(first).chain(rest))
}

fn response(position: Timestamp, message: Message) -> Result<WatchResponse, Status> {
    Ok(WatchResponse { cursor: cursor(position), message: Some(message) })
}

impl Reader {
    async fn next(&mut self) -> Message {
        loop {
            while let Some(event) = self.batch.pop_front() {
                self.position = event.at;
                if self.is_wanted(&event) {
                    return Message::Event(messages::event(&event));
                }
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next_heartbeat) => {
                    return Message::Heartbeat(Heartbeat {});
                }
                Batch { missing, events } = self.watch.watcher.next() => {
                    self.batch.extend(events);
                    if let Some(until) = missing {
                        return Message::Gap(Gap { until: Some(timestamp(until)) });
                    }
                }
            }
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        let types = &self.watch.types;
        self.watch.wanted.includes(&event.container, &event.labels)
            && (types.is_empty() || types.contains(&messages::type_of(event)))
    }
}
