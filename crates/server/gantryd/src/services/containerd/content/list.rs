//! Lists of blobs and of writes, which are read page by page.

use std::sync::Arc;

use gantry_api::containerd::content::{
    ListContentRequest, ListContentResponse, ListStatusesRequest, ListStatusesResponse,
};
use prost::Message;
use tonic::{Request, Status};

use super::messages;
use crate::{
    rpc::listing,
    services::containerd::{
        Surface,
        list_size::ListSize,
        pages::{Answers, pages},
        request,
        status::{of_content, of_store},
    },
};

pub(super) async fn blobs(
    surface: &Surface,
    request: &Request<ListContentRequest>,
) -> Result<Answers<ListContentResponse>, Status> {
    let namespace = request::namespace(request)?;
    let filters = request::filters(&request.get_ref().filters)?;
    let counted = listing(request).await;
    let of = Arc::new((surface.store().await, namespace, filters));
    let read = move |after| {
        let of = Arc::clone(&of);
        async move {
            let (store, namespace, filters) = &*of;
            let page = store.blob_page(namespace, filters, after).await.map_err(of_store)?;
            Ok((page.blobs.into_iter().map(messages::info).collect(), page.after))
        }
    };
    pages(counted, read, |info| ListContentResponse { info }).await
}

pub(super) async fn statuses(
    surface: &Surface,
    request: &Request<ListStatusesRequest>,
) -> Result<ListStatusesResponse, Status> {
    let namespace = request::namespace(request)?;
    let filters = request::filters(&request.get_ref().filters)?;
    let _counted = listing(request).await;
    let mut size = ListSize::of(request, "a filter makes it shorter");
    let content = surface.content().await?;
    let (mut statuses, mut after) = (Vec::new(), None);
    loop {
        let page = content.statuses(&namespace, &filters, after).await.map_err(of_content)?;
        let page_statuses: Vec<_> = page.statuses.into_iter().map(messages::status).collect();
        size.add(page_statuses.iter().map(Message::encoded_len).sum())?;
        statuses.extend(page_statuses);
        after = page.after;
        if after.is_none() {
            return Ok(ListStatusesResponse { statuses });
        }
    }
}
