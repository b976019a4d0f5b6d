//! The services of containerd that run containers, of proto/containerd. What each answers is in
//! docs/containerd.md.
//!
//! A call that does not end by itself (Wait, Subscribe) is named in `rpc/endless.rs`, so that a server
//! that stops does not wait for it.

mod collection;
mod container_message;
mod containers;
mod content;
mod diff;
mod events;
mod images;
mod introspection;
mod key_locks;
mod leases;
mod list_size;
mod metrics;
mod namespaces;
mod pages;
mod plain;
mod request;
mod restart;
mod runtime_info;
mod snapshots;
mod status;
mod streaming;
mod tasks;
mod transfer;
mod version;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::SystemTime};

use collection::Collections;
pub(crate) use collection::MeasuredCollections;
use containers::Containers;
use events::Events;
use gantry_api::containerd::{
    containers::containers_server::ContainersServer, content::content_server::ContentServer,
    diff::diff_server::DiffServer, events::events_server::EventsServer,
    images::images_server::ImagesServer, introspection::introspection_server::IntrospectionServer,
    leases::leases_server::LeasesServer, namespaces::namespaces_server::NamespacesServer,
    snapshots::snapshots_server::SnapshotsServer, streaming::streaming_server::StreamingServer,
    tasks::tasks_server::TasksServer, transfer::transfer_server::TransferServer,
    version::version_server::VersionServer,
};
use gantry_content::Content;
use gantry_diff::Bounds;
use gantry_domain::{ContainerId, ContainerKey, Namespace};
use gantry_registry::{Limits, Proxies, Registries};
use gantry_snapshots::Snapshots;
use gantry_store::{Container, Digest, Store};
use gantry_supervisor::Supervisor;
use images::Images;
use introspection::Introspection;
use key_locks::{KeyGuard, KeyLocks};
use leases::Leases;
use namespaces::Namespaces;
use plain::Plain;
use prost_types::Any;
use streaming::Streams;
use tasks::Tasks;
pub(crate) use tasks::check_any;
use tokio::{
    runtime::Handle,
    sync::{Notify, OnceCell},
};
use tonic::{Status, body::Body, codegen::Service, server::NamedService, service::RoutesBuilder};
use tower::Layer;
use version::Version;
pub(crate) use version::{REVISION, VERSION};

use super::{PendingMetadata, PendingSupervisor};
use crate::{
    metadata::Identity,
    rpc::{AdmissionLayer, Aside},
};

/// Larger messages are refused before they are parsed. It is well above the 16 MiB that clients of
/// containerd send and that a field may have, so that a field that is too large is named.
const MAX_MESSAGE: usize = 64 << 20;

/// What the services share. Clones are the same.
#[derive(Clone)]
pub(crate) struct Surface(Arc<Shared>);

struct Shared {
    supervisor: PendingSupervisor,
    metadata: PendingMetadata,
    locks: KeyLocks<ContainerKey>,
    /// Notified when a lease that ends was made.
    leases_changed: Notify,
    collections: Collections,
    /// Of blobs that are fetched for a namespace, from whichever registry.
    fetches: KeyLocks<(Namespace, Digest)>,
    registries: OnceCell<Registries>,
    /// What clients have opened for later calls.
    streams: Streams,
    layer_turns: diff::Turns,
    /// Of each layer that is unpacked.
    layer_bounds: Bounds,
    /// When the server began, before it served anybody.
    began: SystemTime,
}

impl Surface {
    pub(crate) fn new(
        supervisor: PendingSupervisor,
        metadata: PendingMetadata,
        layer_bounds: Bounds,
    ) -> Self {
        Self(Arc::new(Shared {
            supervisor,
            metadata,
            locks: KeyLocks::default(),
            leases_changed: Notify::new(),
            collections: Collections::default(),
            fetches: KeyLocks::default(),
            registries: OnceCell::new(),
            streams: Streams::default(),
            layer_turns: diff::Turns::default(),
            layer_bounds,
            began: SystemTime::now(),
        }))
    }

    /// Adds the services, whose calls are weighed by `admission` and run on `runtime`.
    pub(crate) fn add_to(
        &self,
        routes: &mut RoutesBuilder,
        admission: &AdmissionLayer,
        runtime: &Handle,
    ) {
        let mut routes = Routes { routes, admission, runtime };
        let surface = || self.clone();
        routes.add(
            ContainersServer::new(Containers(surface())).max_decoding_message_size(MAX_MESSAGE),
        );
        routes.add(
            ContentServer::new(content::Service(surface())).max_decoding_message_size(MAX_MESSAGE),
        );
        routes
            .add(DiffServer::new(diff::Service(surface())).max_decoding_message_size(MAX_MESSAGE));
        routes.add(EventsServer::new(Events(surface())).max_decoding_message_size(MAX_MESSAGE));
        routes.add(ImagesServer::new(Images(surface())).max_decoding_message_size(MAX_MESSAGE));
        routes.add(IntrospectionServer::new(Introspection(surface())));
        routes.add(LeasesServer::new(Leases(surface())).max_decoding_message_size(MAX_MESSAGE));
        routes.add(
            NamespacesServer::new(Namespaces(surface())).max_decoding_message_size(MAX_MESSAGE),
        );
        routes.add(
            SnapshotsServer::new(snapshots::Service(surface()))
                .max_decoding_message_size(MAX_MESSAGE),
        );
        routes.add(
            StreamingServer::new(streaming::Service(surface()))
                .max_decoding_message_size(MAX_MESSAGE),
        );
        routes.add(TasksServer::new(Tasks(surface())).max_decoding_message_size(MAX_MESSAGE));
        routes.add(
            TransferServer::new(transfer::Service::new(surface()))
                .max_decoding_message_size(MAX_MESSAGE),
        );
        routes.add(VersionServer::new(Version));
    }

    /// How often was removed what nothing refers to.
    pub(crate) fn measure_collections(&self) -> MeasuredCollections {
        self.0.collections.measure()
    }

    /// Does the background work (expiry of leases, collections, restarts, receipts), as long as the server runs.
    pub(crate) async fn keep(self) {
        tokio::join!(
            leases::expire(self.clone()),
            collection::keep(self.clone()),
            events::note_receipts(&self),
            restart::watch(self.clone())
        );
    }

    async fn supervisor(&self) -> &Supervisor {
        self.0.supervisor.wait().await
    }

    async fn store(&self) -> Store {
        self.0.metadata.wait().await.store.clone()
    }

    /// The content, which is opened when somebody asks for it first: the first collection, if nobody else does.
    async fn content(&self) -> Result<Content, Status> {
        self.0.metadata.wait().await.content().await.map_err(status::of_content)
    }

    /// The snapshots, which are opened as the content is.
    async fn snapshots(&self) -> Result<Snapshots, Status> {
        self.0.metadata.wait().await.snapshots().await.map_err(status::of_snapshots)
    }

    /// What all registries have in common, which is made when somebody asks one first.
    async fn registries(&self) -> Result<Registries, Status> {
        let make = async || Registries::new(Limits::default(), Proxies::from_environment());
        self.0.registries.get_or_try_init(make).await.cloned().map_err(status::of_registry)
    }

    /// Directories for mounts, see `gantry-diff`.
    async fn mount_places(&self) -> PathBuf {
        self.0.metadata.wait().await.mount_places()
    }

    async fn identity(&self) -> &Identity {
        &self.0.metadata.wait().await.identity
    }

    /// The metadata of a container.
    async fn container(&self, namespace: &Namespace, id: &str) -> Result<Container, Status> {
        self.store().await.container(namespace, id).await.map_err(status::of_store)
    }

    /// Whether a container has a task, which has the container's id.
    async fn has_task(&self, namespace: &Namespace, id: &ContainerId) -> bool {
        self.supervisor().await.container(namespace.clone(), id.clone()).is_ok()
    }

    /// Until the guard is dropped, nobody else deletes this container, or creates its task: checking whether it has a
    /// task and acting upon that are one step.
    async fn lock(&self, namespace: &Namespace, id: &ContainerId) -> KeyGuard<ContainerKey> {
        let key = ContainerKey { namespace: namespace.clone(), id: id.clone() };
        self.0.locks.lock(key).await
    }

    /// Publishes an event: a message of `gantry_api::containerd::event_types` with its topic.
    async fn publish(&self, namespace: &Namespace, topic: &'static str, event: Any) {
        events::publish(self.supervisor().await.events(), namespace, topic, event).await;
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
        let service = Plain(self.admission.layer(service));
        self.routes.add_service(Aside::new(service, self.runtime.clone()));
    }
}

/// Finishes something even if the caller goes away meanwhile: a change, and its event.
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
