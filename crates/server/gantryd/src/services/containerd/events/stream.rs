//! A subscription as a stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use gantry_api::containerd::types::Envelope;
use gantry_events::{Entry, EventLog, Follower, Lagged};
use gantry_store::filter::Filters;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::Status;

use super::{
    envelope::{envelope, of_container},
    fields::field,
};

pub(super) type EnvelopeStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

/// What one subscriber reads.
struct Reader {
    follower: Follower,
    filters: Arc<Filters>,
    /// Among the streams of its connection.
    _counted: Option<OwnedSemaphorePermit>,
    batch: VecDeque<Entry>,
    ended: bool,
}

/// Begins a subscription. The stream has no end of its own, and is waited for as long as its client wants.
pub(super) fn begin(
    log: &EventLog,
    filters: Filters,
    counted: Option<OwnedSemaphorePermit>,
) -> EnvelopeStream {
    let filters = Arc::new(filters);
    let wanted = Arc::clone(&filters);
    let follower = log.follow(move |event| matches(&wanted, &of_container(event)));
    let batch = VecDeque::new();
    let reader = Reader { follower, filters, _counted: counted, batch, ended: false };
    let stream = futures_util::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|item| (item, reader))
    });
    Box::pin(stream)
}

fn matches(filters: &Filters, envelope: &Envelope) -> bool {
    filters.matches(&|path| field(envelope, path))
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Envelope, Status>> {
        loop {
            while let Some(entry) = self.batch.pop_front() {
                let envelope = envelope(&entry);
                if matches(&self.filters, &envelope) {
                    return Some(Ok(envelope));
                }
            }
            if self.ended {
                return None;
            }
            // To ask for more says that what was before has arrived. First it goes on its way: the stream is
            // polled again when the connection has taken all of it.
            tokio::task::yield_now().await;
            match self.follower.next().await {
                Ok(batch) => self.batch.extend(batch),
                // Of exits that nobody has read for long. It goes on with those that are left.
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
        "too far behind: events were missed; who subscribes again is told exits and kills for want of memory",
    )
}
