//! Who sent a request, and what is counted for them.

use gantry_domain::Timestamp;
use gantry_supervisor::Caller;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Status};

use super::{Peer, began::began};
use crate::access::Role;

/// The connection that a request came on.
pub(crate) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Peer>().map(|peer| peer.caller).unwrap_or_default()
}

/// When the process that has made the connection was started, if that is known.
pub(crate) fn caller_began<T>(request: &Request<T>) -> Option<Timestamp> {
    request.extensions().get::<Peer>()?.who.process.and_then(began)
}

/// Whether events count as received once this client has read them. Those who may not act on an event only watch: what
/// they have seen is kept for the daemon, which is an admin.
pub(crate) fn receives<T>(request: &Request<T>) -> bool {
    request.extensions().get::<Role>().is_none_or(|role| *role == Role::Admin)
}

/// Counts an event stream of a connection.
pub(crate) fn follower<T>(request: &Request<T>) -> Result<Option<OwnedSemaphorePermit>, Status> {
    request.extensions().get().map(Peer::follower).transpose()
}

/// Waits until a list of all containers may be made for a connection.
pub(crate) async fn listing<T>(request: &Request<T>) -> Option<OwnedSemaphorePermit> {
    request.extensions().get::<Peer>().cloned()?.listing().await
}
