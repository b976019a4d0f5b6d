//! Who sent a request, and what is counted for them.

use gantry_domain::Timestamp;
use gantry_supervisor::Caller;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Status};

use super::{Peer, began::began};

/// The connection that a request came on.
pub(crate) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Peer>().map(|peer| peer.caller).unwrap_or_default()
}

/// When the process that has made the connection was started, if that is known.
pub(crate) fn caller_began<T>(request: &Request<T>) -> Option<Timestamp> {
    request.extensions().get::<Peer>()?.who.process.and_then(began)
}

/// Counts an event stream of a connection.
pub(crate) fn follower<T>(request: &Request<T>) -> Result<Option<OwnedSemaphorePermit>, Status> {
    request.extensions().get().map(Peer::follower).transpose()
}

/// Waits until a list of all containers may be made for a connection.
pub(crate) async fn listing<T>(request: &Request<T>) -> Option<OwnedSemaphorePermit> {
    request.extensions().get::<Peer>().cloned()?.listing().await
}
