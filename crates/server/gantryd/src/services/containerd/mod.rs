//! The services of containerd that run containers, of proto/containerd. What each answers is in
//! docs/containerd.md.
//!
//! A call that does not end by itself (Wait, Subscribe) is named in `rpc/endless.rs`, so that a server
//! that stops does not wait for it.

mod key_locks;
mod request;
mod status;
mod version;

use std::{convert::Infallible, sync::Arc};

use gantry_api::containerd::version::version_server::VersionServer;
use gantry_domain::{ContainerId, ContainerKey, Namespace};
use gantry_store::{Container, Store};
use gantry_supervisor::{ContainerHandle, Supervisor};
use key_locks::{KeyGuard, KeyLocks};
use prost_types::Any;
use tokio::runtime::Handle;
use tonic::{Status, body::Body, codegen::Service, server::NamedService, service::RoutesBuilder};
use tower::Layer;

use super::{PendingStore, PendingSupervisor};
use crate::rpc::{AdmissionLayer, Aside};

/// Larger messages are refused before they are looked at. Clients of containerd send 16 MiB at most.
const MAX_MESSAGE: usize = (16 << 20) + (64 << 10);

/// What the services share. Clones are the same.
#[derive(Clone)]
pub(crate) struct Surface(Arc<Shared>);

struct Shared {
    supervisor: PendingSupervisor,
    store: PendingStore,
    locks: KeyLocks,
}

impl Surface {
    pub(crate) fn new(supervisor: PendingSupervisor, store: PendingStore) -> Self {
        Self(Arc::new(Shared { supervisor, store, locks: KeyLocks::default() }))
    }

    /// Adds the services, whose calls are weighed by `admission` and run on `runtime`.
    pub(crate) fn add_to(
        &self,
        routes: &mut RoutesBuilder,
        (admission, runtime): (&AdmissionLayer, &Handle),
    ) {
        let mut routes = Routes { routes, admission, runtime };
        routes.add(VersionServer::new(version::Version));
    }

    async fn supervisor(&self) -> &Supervisor {
        self.0.supervisor.wait().await
    }

    async fn store(&self) -> &Store {
        self.0.store.wait().await
    }

    /// The metadata of a container.
    async fn container(&self, namespace: &Namespace, id: &str) -> Result<Container, Status> {
        self.store().await.container(namespace, id).await.map_err(status::of_store)
    }

    /// The task of a container, which has its id.
    async fn task(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<ContainerHandle, Status> {
        let supervisor = self.supervisor().await;
        supervisor.container(namespace.clone(), id.clone()).map_err(status::of_supervisor)
    }

    /// Until the guard is dropped, nobody else deletes this container, or makes a task of it: whether a
    /// container has a task is asked and acted upon in one.
    async fn lock(&self, namespace: &Namespace, id: &ContainerId) -> KeyGuard {
        let key = ContainerKey { namespace: namespace.clone(), id: id.clone() };
        self.0.locks.lock(key).await
    }

    /// Tells an event: a message of `gantry_api::containerd::event_types` with its topic.
    #[allow(clippy::unused_async, clippy::needless_pass_by_value, reason = "see below")]
    async fn publish(&self, namespace: &Namespace, topic: &'static str, event: Any) {
        // The service of events, once it is there, takes it from here.
        tracing::debug!(%namespace, topic, kind = event.type_url, "event");
    }
}

/// Where services are added.
struct Routes<'a> {
    routes: &'a mut RoutesBuilder,
    admission: &'a AdmissionLayer,
    runtime: &'a Handle,
}

impl Routes<'_> {
    fn add<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(Aside::new(self.admission.layer(service), self.runtime.clone()));
    }
}

/// Does something to its end, also if the caller goes away meanwhile: a change, and what is told of it.
async fn to_the_end<T: Send + 'static>(
    doing: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(doing).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "a change has ended without an answer");
            Err(Status::internal("the server has a fault; its log says more"))
        }
    }
}
