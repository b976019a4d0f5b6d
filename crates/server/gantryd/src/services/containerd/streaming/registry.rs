//! Which streams there are.
//!
//! ```text
//! opened:  by the client's first message; waits until a call takes it, or its client is gone
//! taken:   by one call; its id stays taken until that call drops it, which closes it
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use gantry_domain::Namespace;
use prost_types::Any;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::opened;

/// How long a client may take to see that its stream is closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// A namespace, and an id in it.
type Key = (Namespace, String);

/// All streams, `None` of those that a call uses. Clones are the same.
#[derive(Clone, Default)]
pub(in super::super) struct Streams(Arc<Mutex<HashMap<Key, Option<Box<Open>>>>>);

/// A stream that nobody uses yet.
struct Open {
    ends: Ends,
    /// Its end tells that this is over.
    _over: oneshot::Sender<()>,
}

/// Both ends of a stream.
pub(super) struct Ends {
    pub(super) incoming: Streaming<Any>,
    pub(super) outgoing: mpsc::Sender<Result<Any, Status>>,
    /// Among those of its connection.
    pub(super) counted: Option<OwnedSemaphorePermit>,
}

/// A stream that one call uses. It is closed when this is dropped.
pub(in super::super) struct ClientStream {
    ends: Ends,
    place: Place,
}

/// An id that is taken.
struct Place {
    streams: Streams,
    key: Key,
}

impl Streams {
    /// Has a stream found by its id until it is taken, or its client is gone.
    pub(super) async fn keep(&self, namespace: Namespace, id: String, ends: Ends) {
        let (key, outgoing) = ((namespace, id), ends.outgoing.clone());
        let (_over, mut over) = oneshot::channel();
        match self.map().entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Some(Box::new(Open { ends, _over })));
            }
            Entry::Occupied(_) => {
                let message = format!("stream {:?}: already exists", key.1);
                // There is room: nothing was sent yet.
                let _ = outgoing.try_send(Err(Status::already_exists(message)));
                return;
            }
        }
        // Only now, as the client may use it when it has this.
        if outgoing.send(Ok(opened())).await.is_ok() {
            tokio::select! {
                () = outgoing.closed() => {}
                _ = &mut over => {}
            }
        }
        let mut map = self.map();
        if over.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty) {
            map.remove(&key);
        }
    }

    /// Takes a stream, which no other call can use then.
    pub(in super::super) fn take(
        &self,
        namespace: &Namespace,
        id: &str,
    ) -> Result<ClientStream, Status> {
        let key = (namespace.clone(), id.to_owned());
        let mut map = self.map();
        let Some(slot) = map.get_mut(&key) else {
            return Err(Status::not_found(format!("stream {id:?}: not found")));
        };
        match slot.take() {
            Some(open) => {
                let place = Place { streams: self.clone(), key };
                Ok(ClientStream { ends: open.ends, place })
            }
            None => {
                let message = format!("stream {id:?}: another call uses it: failed precondition");
                Err(Status::failed_precondition(message))
            }
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Key, Option<Box<Open>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.map().remove(&self.key);
    }
}

impl ClientStream {
    /// The id that its client has given it.
    pub(in super::super) fn id(&self) -> &str {
        &self.place.key.1
    }

    /// Sends a message, when the client has read enough of those before. The future may be dropped.
    pub(in super::super) async fn send(&self, message: Any) -> Result<(), Status> {
        self.ends.outgoing.send(Ok(message)).await.map_err(|_| self.gone())
    }

    /// The next message; `None` if the client has no more. The future may be dropped.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Any>, Status> {
        self.ends.incoming.message().await.map_err(|error| {
            tracing::info!(%error, stream = self.id(), "a client's stream was broken off");
            self.gone()
        })
    }

    /// Closes it, and waits for a moment until the client has seen that, so that it has all that was sent.
    pub(in super::super) async fn close(self) {
        let Self { ends: Ends { mut incoming, outgoing, counted: _counted }, place: _place } = self;
        drop(outgoing);
        let end = async { while let Ok(Some(_)) = incoming.message().await {} };
        // It counts for nothing if the client does not say so.
        let _ = timeout(CLOSE_DEADLINE, end).await;
    }

    fn gone(&self) -> Status {
        Status::cancelled(format!("stream {:?}: the client has closed it: cancelled", self.id()))
    }
}

/// Ends a stream that was not opened.
pub(super) async fn refuse(outgoing: &mpsc::Sender<Result<Any, Status>>, status: Status) {
    // The client may have gone.
    let _ = outgoing.send(Err(status)).await;
}

/// What is sent on a stream; the end of it if nobody can send any more.
pub(super) struct Messages(pub(super) mpsc::Receiver<Result<Any, Status>>);

impl Stream for Messages {
    type Item = Result<Any, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.0.poll_recv(cx)))
    }
}
