//! Leases, and their expiry.

use std::time::{Duration, SystemTime};

use gantry_api::containerd::leases::{
    AddResourceRequest, CreateRequest, CreateResponse, DeleteRequest, DeleteResourceRequest, Lease,
    ListRequest, ListResourcesRequest, ListResourcesResponse, ListResponse, Resource,
    leases_server,
};
use gantry_store::{Store, StoreError};
use prost::Message;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use super::{Surface, list_size::ListSize, request, status::of_store, to_the_end};
use crate::rpc::listing;

/// The longest pause between two checks: the clock that decides when leases end can be set.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// When to try again if the store has failed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The service.
pub(super) struct Leases(pub(super) Surface);

#[tonic::async_trait]
impl leases_server::Leases for Leases {
    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let CreateRequest { id, labels } = request.into_inner();
        let (surface, store) = (self.0.clone(), self.0.store().await);
        let created = to_the_end(async move {
            let created = store.create_lease(&namespace, &id, labels).await.map_err(of_store)?;
            if created.expires_at().is_some() {
                surface.0.leases_changed.notify_one();
            }
            Ok(created)
        });
        Ok(Response::new(CreateResponse { lease: Some(lease(created.await?)) }))
    }

    /// With `sync` it answers when what the lease alone kept is removed.
    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let DeleteRequest { id, sync } = request.into_inner();
        self.0.store().await.delete_lease(&namespace, &id).await.map_err(of_store)?;
        if sync {
            self.0.0.collections.wait().await?;
        }
        Ok(Response::new(()))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let filters = request::filters(&request.get_ref().filters)?;
        let _counted = listing(&request).await;
        let mut size = ListSize::of(&request, "a filter makes it shorter");
        let store = self.0.store().await;
        let (mut leases, mut after) = (Vec::new(), None);
        loop {
            let page = store.lease_page(&namespace, &filters, after).await.map_err(of_store)?;
            let page_leases: Vec<_> = page.leases.into_iter().map(lease).collect();
            size.add(page_leases.iter().map(Message::encoded_len).sum())?;
            leases.extend(page_leases);
            after = page.after;
            if after.is_none() {
                return Ok(Response::new(ListResponse { leases }));
            }
        }
    }

    async fn add_resource(
        &self,
        request: Request<AddResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let AddResourceRequest { id, resource: added } = request.into_inner();
        let store = self.0.store().await;
        store.add_resource(&namespace, &id, resource(added)).await.map_err(of_store)?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let DeleteResourceRequest { id, resource: deleted } = request.into_inner();
        let store = self.0.store().await;
        store.delete_resource(&namespace, &id, resource(deleted)).await.map_err(of_store)?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let id = &request.get_ref().id;
        let _counted = listing(&request).await;
        let mut size = ListSize::of(&request, "the lease keeps too much to be listed");
        let store = self.0.store().await;
        let message =
            |resource: gantry_store::Resource| Resource { id: resource.id, r#type: resource.kind };
        let (mut resources, mut after) = (Vec::new(), None);
        loop {
            let page = store.resource_page(&namespace, id, after).await.map_err(of_store)?;
            let page_resources: Vec<_> = page.resources.into_iter().map(message).collect();
            size.add(page_resources.iter().map(Message::encoded_len).sum())?;
            resources.extend(page_resources);
            after = page.after;
            if after.is_none() {
                return Ok(Response::new(ListResourcesResponse { resources }));
            }
        }
    }
}

fn lease(lease: gantry_store::Lease) -> Lease {
    Lease { id: lease.id, labels: lease.labels, created_at: Some(lease.created_at.into()) }
}

fn resource(resource: Option<Resource>) -> gantry_store::Resource {
    let Resource { id, r#type: kind } = resource.unwrap_or_default();
    gantry_store::Resource { kind, id }
}

/// Deletes leases when they end, for as long as the store is open.
pub(super) async fn expire(surface: Surface) {
    let store = surface.store().await;
    loop {
        let pause = match expire_now(&store).await {
            Ok(pause) => pause,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "leases that have ended cannot be deleted; trying again");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = surface.0.leases_changed.notified() => {}
        }
    }
}

/// Deletes those that have ended; returns how long until the next check.
async fn expire_now(store: &Store) -> Result<Duration, StoreError> {
    for (namespace, lease) in store.expire_leases(SystemTime::now()).await? {
        tracing::debug!(namespace = namespace.name(), lease = lease.id, "a lease has ended");
    }
    let Some(end) = store.first_lease_end().await? else { return Ok(LONGEST_PAUSE) };
    // One that ends meanwhile is deleted in the next round.
    let pause = end.duration_since(SystemTime::now()).unwrap_or_default();
    Ok(pause.min(LONGEST_PAUSE))
}
