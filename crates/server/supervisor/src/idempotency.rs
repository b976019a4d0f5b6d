//! A request to create a container that its caller can repeat: as long as the container is there, the same request with
//! the same key has the same container as its answer, also from the next server.
//!
//! The key is kept in the container's record, which is on disk before anything of the container is made, and goes with
//! it: there are no more keys than containers. A container whose start no server has published never was, and so was its
//! key: the request makes it anew.

use std::sync::Arc;

use gantry_domain::{ContainerId, ContainerKey, Namespace};
use serde::{Deserialize, Serialize};

use crate::{
    Supervisor, SupervisorError,
    handle::{ContainerHandle, ContainerView},
};

/// A key that a caller has given with a request, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As the caller has chosen it, unique among those of containers of its namespace.
    pub key: String,
    /// Tells the request from all others.
    pub digest: String,
}

/// What is known by a key.
pub(crate) enum Repeated {
    /// Nothing: neither the id nor the key is in use.
    No,
    /// The same request has made this container, or is about to.
    Of(ContainerHandle),
}

impl ContainerHandle {
    /// Whether this container was made with that key, by whatever request.
    pub(crate) fn has_key(&self, namespace: &Namespace, key: &IdempotencyKey) -> bool {
        let own = self.idempotency.as_ref().filter(|_| !self.half_made);
        own.is_some_and(|own| own.key == key.key) && self.key.namespace == *namespace
    }

    /// Waits until it is made. `None` if that has failed, or the container is gone; its id is free then.
    async fn made(&self) -> Result<Option<ContainerView>, SupervisorError> {
        match self.ask_for_made().await {
            Ok(view) => Ok(Some(view)),
            Err(SupervisorError::ContainerNotFound(_)) => {
                self.mailbox.closed().await;
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

impl Supervisor {
    /// What an earlier request with this key has made. Waits for one that is under way.
    ///
    /// # Errors
    /// If the key was given with another request.
    pub async fn made_before(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        idempotency: Option<&Arc<IdempotencyKey>>,
    ) -> Result<Option<ContainerView>, SupervisorError> {
        let Some(idempotency) = idempotency else { return Ok(None) };
        let key = ContainerKey { namespace: namespace.clone(), id: id.clone() };
        loop {
            match self.0.services.registry.repeated(&key, idempotency)? {
                Repeated::No => return Ok(None),
                Repeated::Of(holder) => {
                    if let Some(view) = holder.made().await? {
                        return Ok(Some(view));
                    }
                    // Its task has ended without freeing the id, which only a bug can do.
                    if self.0.services.registry.has(&holder) {
                        return Err(SupervisorError::Bug);
                    }
                }
            }
        }
    }
}
