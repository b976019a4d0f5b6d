//! Namespaces and their labels.

use gantry_api::containerd::{
    event_types::{NamespaceCreate, NamespaceDelete, NamespaceUpdate},
    namespaces::{
        CreateNamespaceRequest, CreateNamespaceResponse, DeleteNamespaceRequest,
        GetNamespaceRequest, GetNamespaceResponse, ListNamespacesRequest, ListNamespacesResponse,
        Namespace as Message, UpdateNamespaceRequest, UpdateNamespaceResponse, namespaces_server,
    },
    to_any, topic,
};
use tonic::{Request, Response, Status};

use super::{
    Surface, request,
    status::{invalid, of_store},
    to_the_end,
};

/// The service.
pub(super) struct Namespaces(pub(super) Surface);

#[tonic::async_trait]
impl namespaces_server::Namespaces for Namespaces {
    /// Accepts any name, as containerd does: a namespace that is not there has no labels.
    async fn get(
        &self,
        request: Request<GetNamespaceRequest>,
    ) -> Result<Response<GetNamespaceResponse>, Status> {
        let name = request.into_inner().name;
        let labels = match request::named("name", &name) {
            Ok(namespace) => {
                self.0.store().await.namespace_labels(&namespace).await.map_err(of_store)?
            }
            Err(_) => Default::default(),
        };
        Ok(Response::new(GetNamespaceResponse { namespace: Some(Message { name, labels }) }))
    }

    async fn list(
        &self,
        _request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let namespaces = self.0.store().await.namespaces().await.map_err(of_store)?;
        let message = |(namespace, labels): (gantry_domain::Namespace, _)| Message {
            name: namespace.name().to_owned(),
            labels,
        };
        let namespaces = namespaces.into_iter().map(message).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<CreateNamespaceResponse>, Status> {
        let Message { name, labels } = request.into_inner().namespace.unwrap_or_default();
        let namespace = named(&name)?;
        let (surface, store) = (self.0.clone(), self.0.store().await);
        let created = to_the_end(async move {
            let labels = store.create_namespace(&namespace, labels).await.map_err(of_store)?;
            let event = NamespaceCreate { name: name.clone(), labels: labels.clone() };
            surface.publish(&namespace, topic::NAMESPACE_CREATE, to_any(&event)).await;
            Ok(Message { name, labels })
        });
        Ok(Response::new(CreateNamespaceResponse { namespace: Some(created.await?) }))
    }

    /// Answers with the namespace as it is then, where containerd's answer is empty.
    async fn update(
        &self,
        request: Request<UpdateNamespaceRequest>,
    ) -> Result<Response<UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let Message { name, labels: new } = request.namespace.unwrap_or_default();
        let mask = request.update_mask.unwrap_or_default().paths;
        let namespace = named(&name)?;
        let (surface, store) = (self.0.clone(), self.0.store().await);
        let updated = to_the_end(async move {
            let labels = store.update_namespace(&namespace, new.clone(), mask).await;
            let labels = labels.map_err(of_store)?;
            // The labels of the request, as in containerd.
            let event = NamespaceUpdate { name: name.clone(), labels: new };
            surface.publish(&namespace, topic::NAMESPACE_UPDATE, to_any(&event)).await;
            Ok(Message { name, labels })
        });
        Ok(Response::new(UpdateNamespaceResponse { namespace: Some(updated.await?) }))
    }

    async fn delete(
        &self,
        request: Request<DeleteNamespaceRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().name;
        let namespace = request::named("name", &name)
            .map_err(|_| Status::not_found(format!("namespace {name:?}: not found")))?;
        let (surface, store) = (self.0.clone(), self.0.store().await);
        to_the_end(async move {
            store.delete_namespace(&namespace).await.map_err(of_store)?;
            let event = to_any(&NamespaceDelete { name });
            surface.publish(&namespace, topic::NAMESPACE_DELETE, event).await;
            Ok(())
        })
        .await?;
        Ok(Response::new(()))
    }
}

/// The namespace that a request makes or changes.
fn named(name: &str) -> Result<gantry_domain::Namespace, Status> {
    request::named("namespace.name", name).map_err(|problem| invalid("namespace.name", problem))
}
