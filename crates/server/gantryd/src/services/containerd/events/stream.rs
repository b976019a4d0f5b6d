//! A subscription as a stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use gantry_api::containerd::types::Envelope;
use gantry_events::{Entry, EventLog, Follower, Lagged};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::Status;

use super::wanted::Wanted;

pub(super) type EnvelopeStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

/// What one subscriber reads.
struct Reader {
    follower: Follower,
    wanted: Arc<Wanted>,
    /// Among the streams of its connection.
    _counted: Option<OwnedSemaphorePermit>,
    batch: VecDeque<Entry>,
    ended: bool,
}

/// Begins a subscription. Its stream ends only with its client or the server. What it has counts as received if the
/// subscriber `receives` events.
pub(super) fn begin(
    log: &EventLog,
    wanted: Wanted,
    counted: Option<OwnedSemaphorePermit>,
    receives: bool,
) -> EnvelopeStream {
    let wanted = Arc::new(wanted);
    let asked = Arc::clone(&wanted);
    let follower = match receives {
        true => log.follow(move |event| asked.of_container(event).is_some()),
        false => log.watch_named(),
    };
    let batch = VecDeque::new();
    let reader = Reader { follower, wanted, _counted: counted, batch, ended: false };
    let stream = futures_util::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|item| (item, reader))
    });
    Box::pin(stream)
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Envelope, Status>> {
        loop {
            while let Some(entry) = self.batch.pop_front() {
                if let Some(envelope) = self.wanted.of(&entry) {
                    return Some(Ok(envelope));
                }
            }
            if self.ended {
                return None;
            }
            // Asking for more means that the events before have arrived. They are sent first: the stream is
            // polled again when the connection has taken all of them.
            tokio::task::yield_now().await;
            match self.follower.next().await {
                Ok(batch) => self.batch.extend(batch),
                // Old exits were dropped. The subscription goes on with those that are left.
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
}

fn too_far_behind(lagged: Lagged) -> Status {
    tracing::warn!(error = %lagged, "a subscriber does not read its events");
    Status::data_loss(
        "too far behind: events were missed; a new subscription gets the exits and OOM kills among them",
    )
}
