//! Content: blobs, and writes of blobs under way. Their bytes are `gantry-content`'s.

mod list;
mod messages;
mod write;

use gantry_api::containerd::{
    content::{
        AbortRequest, DeleteContentRequest, InfoRequest, InfoResponse, ListContentRequest,
        ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest,
        ReadContentResponse, StatusRequest, StatusResponse, UpdateRequest, UpdateResponse,
        WriteContentRequest, WriteContentResponse, content_server,
    },
    event_types::ContentDelete,
    to_any, topic,
};
use gantry_content::Reader;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Surface,
    pages::Answers,
    request,
    status::{of_content, of_store},
    to_the_end,
};

/// The service.
pub(super) struct Service(pub(super) Surface);

#[tonic::async_trait]
impl content_server::Content for Service {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let digest = messages::digest("digest", &request.get_ref().digest)?;
        let blob = self.0.store().await.blob(&namespace, &digest).await.map_err(of_store)?;
        Ok(Response::new(InfoResponse { info: Some(messages::info(blob)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateRequest>,
    ) -> Result<Response<UpdateResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let UpdateRequest { info, update_mask } = request.into_inner();
        let info = info.unwrap_or_default();
        let digest = messages::digest("info.digest", &info.digest)?;
        let mask = update_mask.unwrap_or_default().paths;
        let store = self.0.store().await;
        let updated = store.update_blob(&namespace, &digest, info.labels, mask).await;
        let info = Some(messages::info(updated.map_err(of_store)?));
        Ok(Response::new(UpdateResponse { info }))
    }

    type ListStream = Answers<ListContentResponse>;

    async fn list(
        &self,
        request: Request<ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        list::blobs(&self.0, &request).await.map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let digest = messages::bare_digest("digest", &request.get_ref().digest)?;
        let lease = request::lease(&request)?;
        let content = self.0.content().await?;
        let surface = self.0.clone();
        self.0.supervisor().await;
        let deleted = to_the_end(async move {
            content.delete(&namespace, &digest, lease).await.map_err(of_content)?;
            let event = to_any(&ContentDelete { digest: digest.to_string() });
            surface.publish(&namespace, topic::CONTENT_DELETE, event).await;
            Ok(())
        });
        deleted.await.map(Response::new)
    }

    type ReadStream = Answers<ReadContentResponse>;

    async fn read(
        &self,
        request: Request<ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let namespace = request::namespace(&request)?;
        let ReadContentRequest { digest, offset, size } = request.into_inner();
        let digest = messages::shown_digest("digest", &digest)?;
        let offset = u64::try_from(offset).unwrap_or_default();
        let size = u64::try_from(size).ok().filter(|size| *size > 0);
        let content = self.0.content().await?;
        // What is found damaged is dropped to the end.
        let reader = to_the_end(async move {
            content.read(&namespace, &digest, offset, size).await.map_err(of_content)
        });
        let state = (Some(reader.await?), 0);
        let stream = futures_util::stream::unfold(state, |(reader, offset)| pieces(reader, offset));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let reference = &request.get_ref().r#ref;
        let content = self.0.content().await?;
        let status = content.status(&namespace, reference).await.map_err(|error| {
            let status = of_content(error);
            let message =
                format!("could not get status for ref {reference:?}: {}", status.message());
            Status::new(status.code(), message)
        })?;
        Ok(Response::new(StatusResponse { status: Some(messages::status(status)) }))
    }

    async fn list_statuses(
        &self,
        request: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        list::statuses(&self.0, &request).await.map(Response::new)
    }

    type WriteStream = Answers<WriteContentResponse>;

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let content = self.0.content().await?;
        let stream = write::begin(content, namespace, lease, request.into_inner());
        Ok(Response::new(stream))
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let reference = request.into_inner().r#ref;
        let content = self.0.content().await?;
        let aborted =
            to_the_end(
                async move { content.abort(&namespace, &reference).await.map_err(of_content) },
            );
        aborted.await.map(Response::new)
    }
}

/// The next message of a read, and what is left of the read. Offsets count from where the read began.
async fn pieces(
    reader: Option<Reader>,
    offset: i64,
) -> Option<(Result<ReadContentResponse, Status>, (Option<Reader>, i64))> {
    let mut reader = reader?;
    match reader.next().await {
        Ok(None) => None,
        Ok(Some(data)) => {
            let next = offset + i64::try_from(data.len()).unwrap_or_default();
            Some((Ok(ReadContentResponse { offset, data }), (Some(reader), next)))
        }
        Err(error) => Some((Err(of_content(error)), (None, offset))),
    }
}
