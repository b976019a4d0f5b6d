//! Containers: their metadata, without processes.

use std::{collections::VecDeque, pin::Pin};

use gantry_api::containerd::{
    containers::{
        self, CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest,
        GetContainerRequest, GetContainerResponse, ListContainerMessage, ListContainersRequest,
        ListContainersResponse, UpdateContainerRequest, UpdateContainerResponse, containers_server,
    },
    event_types::{ContainerCreate, ContainerDelete, ContainerUpdate, container_create::Runtime},
    to_any, topic,
};
use gantry_domain::Namespace;
use gantry_store::{Container, Store, filter::Filters};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    Surface, container_message, list_size::ListSize, request, status::of_store, to_the_end,
};
use crate::rpc::listing;

/// The label of a namespace that names the runtime of containers that are created without one. Clients of
/// containerd look it up themselves.
const DEFAULT_RUNTIME: &str = "containerd.io/defaults/runtime";

/// The service.
pub(super) struct Containers(pub(super) Surface);

#[tonic::async_trait]
impl containers_server::Containers for Containers {
    async fn get(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let found = self.0.container(&namespace, &request.get_ref().id).await?;
        let container = Some(container_message::from_stored(found));
        Ok(Response::new(GetContainerResponse { container }))
    }

    async fn list(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let mut list = List::of(&self.0, &request).await?;
        let mut size = ListSize::of(&request, "ListStream has no limit");
        let mut containers = Vec::new();
        while let Some(page) = list.page().await? {
            size.add(page.iter().map(Message::encoded_len).sum())?;
            containers.extend(page);
        }
        Ok(Response::new(ListContainersResponse { containers }))
    }

    type ListStreamStream =
        Pin<Box<dyn Stream<Item = Result<ListContainerMessage, Status>> + Send>>;

    async fn list_stream(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let mut list = List::of(&self.0, &request).await?;
        // An error at once is the call's answer; a later one ends the stream.
        let first: VecDeque<_> = list.page().await?.unwrap_or_default().into();
        let stream = futures_util::stream::unfold((list, first), |(mut list, mut page)| async {
            loop {
                if let Some(container) = page.pop_front() {
                    let message = ListContainerMessage { container: Some(container) };
                    return Some((Ok(message), (list, page)));
                }
                match list.page().await {
                    Ok(next) => page = next?.into(),
                    Err(error) => {
                        list.is_over = true;
                        return Some((Err(error), (list, page)));
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn create(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let container = request.into_inner().container.unwrap_or_default();
        let mut container = container_message::to_stored(container);
        let (surface, store) = (self.0.clone(), self.0.store().await);
        if container.runtime.name.is_empty() {
            let labels = store.namespace_labels(&namespace).await.map_err(of_store)?;
            container.runtime.name = labels.get(DEFAULT_RUNTIME).cloned().unwrap_or_default();
        }
        let created = to_the_end(async move {
            let created = store.create_container(&namespace, container).await.map_err(of_store)?;
            let event = ContainerCreate {
                id: created.id.clone(),
                image: created.image.clone(),
                runtime: Some(Runtime {
                    name: created.runtime.name.clone(),
                    options: created.runtime.options.clone().map(container_message::any),
                }),
            };
            surface.publish(&namespace, topic::CONTAINER_CREATE, to_any(&event)).await;
            Ok(created)
        });
        let container = Some(container_message::from_stored(created.await?));
        Ok(Response::new(CreateContainerResponse { container }))
    }

    async fn update(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let request = request.into_inner();
        let container = container_message::to_stored(request.container.unwrap_or_default());
        let mask = request.update_mask.unwrap_or_default().paths;
        let (surface, store) = (self.0.clone(), self.0.store().await);
        let updated = to_the_end(async move {
            let updated = store.update_container(&namespace, container, mask).await;
            let updated = updated.map_err(of_store)?;
            publish_update(&surface, &namespace, &updated).await;
            Ok(updated)
        });
        let container = Some(container_message::from_stored(updated.await?));
        Ok(Response::new(UpdateContainerResponse { container }))
    }

    async fn delete(
        &self,
        request: Request<DeleteContainerRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let id = request.into_inner().id;
        // Acquired here, as the task below is not dropped with the call.
        let (surface, store) = (self.0.clone(), self.0.store().await);
        self.0.supervisor().await;
        to_the_end(async move { delete(&surface, store, namespace, id).await }).await?;
        Ok(Response::new(()))
    }
}

/// Publishes that a container was changed, and what it is now.
pub(super) async fn publish_update(surface: &Surface, namespace: &Namespace, updated: &Container) {
    let event = ContainerUpdate {
        id: updated.id.clone(),
        image: updated.image.clone(),
        labels: updated.labels.clone(),
        snapshot_key: updated.snapshot_key.clone(),
    };
    surface.publish(namespace, topic::CONTAINER_UPDATE, to_any(&event)).await;
}

async fn delete(
    surface: &Surface,
    store: Store,
    namespace: Namespace,
    id: String,
) -> Result<(), Status> {
    store.container(&namespace, &id).await.map_err(of_store)?;
    let container = request::container_id("id", &id)?;
    // Whoever creates a task holds the lock, too, from before the container is looked up.
    let _nobody_makes_a_task = surface.lock(&namespace, &container).await;
    if surface.has_task(&namespace, &container).await {
        return Err(Status::failed_precondition(format!(
            "cannot delete container {id:?}, which has a task: failed precondition"
        )));
    }
    store.delete_container(&namespace, &id).await.map_err(of_store)?;
    let event = to_any(&ContainerDelete { id });
    surface.publish(&namespace, topic::CONTAINER_DELETE, event).await;
    Ok(())
}

/// A list that is read page by page.
struct List {
    store: Store,
    namespace: Namespace,
    filters: Filters,
    /// Where the next page begins.
    after: Option<String>,
    is_over: bool,
    /// Among the lists of its connection.
    _counted: Option<OwnedSemaphorePermit>,
}

impl List {
    async fn of(
        surface: &Surface,
        request: &Request<ListContainersRequest>,
    ) -> Result<Self, Status> {
        let namespace = request::namespace(request)?;
        let filters = request::filters(&request.get_ref().filters)?;
        let counted = listing(request).await;
        let store = surface.store().await;
        Ok(Self { store, namespace, filters, after: None, is_over: false, _counted: counted })
    }

    /// The next containers, which may be none; `None` at the end of the list.
    async fn page(&mut self) -> Result<Option<Vec<containers::Container>>, Status> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.store.container_page(&self.namespace, &self.filters, self.after.take());
        let page = page.await.map_err(of_store)?;
        self.is_over = page.after.is_none();
        self.after = page.after;
        let message = |container: Container| container_message::from_stored(container);
        Ok(Some(page.containers.into_iter().map(message).collect()))
    }
}
