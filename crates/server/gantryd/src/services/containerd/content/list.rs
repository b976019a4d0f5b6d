//! Lists of blobs and of writes, which are read page by page.

use std::collections::VecDeque;

use gantry_api::containerd::content::{
    ListContentRequest, ListContentResponse, ListStatusesRequest, ListStatusesResponse,
};
use gantry_domain::Namespace;
use gantry_store::{Store, filter::Filters};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Status};

use super::{Answers, messages};
use crate::{
    rpc::listing,
    services::containerd::{
        Surface,
        list_size::ListSize,
        request,
        status::{of_content, of_store},
    },
};

/// Blobs in one message, as containerd has it.
const IN_A_MESSAGE: usize = 100;

/// A list of blobs.
struct Blobs {
    store: Store,
    namespace: Namespace,
    filters: Filters,
    /// Where the next page begins.
    after: Option<String>,
    is_over: bool,
    ready: VecDeque<ListContentResponse>,
    /// Among the lists of its connection.
    _counted: Option<OwnedSemaphorePermit>,
}

pub(super) async fn blobs(
    surface: &Surface,
    request: &Request<ListContentRequest>,
) -> Result<Answers<ListContentResponse>, Status> {
    let namespace = request::namespace(request)?;
    let filters = request::filters(&request.get_ref().filters)?;
    let counted = listing(request).await;
    let (store, ready) = (surface.store().await, VecDeque::new());
    let (after, is_over) = (None, false);
    let mut list = Blobs { store, namespace, filters, after, is_over, ready, _counted: counted };
    // What fails at once is the answer, and not in the middle of one.
    list.fill().await?;
    Ok(Box::pin(futures_util::stream::unfold(list, |mut list| async {
        if let Err(error) = list.fill().await {
            list.is_over = true;
            return Some((Err(error), list));
        }
        list.ready.pop_front().map(|message| (Ok(message), list))
    })))
}

impl Blobs {
    /// Reads pages until there is a message, or the list is over.
    async fn fill(&mut self) -> Result<(), Status> {
        while self.ready.is_empty() && !self.is_over {
            let page = self.store.blob_page(&self.namespace, &self.filters, self.after.take());
            let page = page.await.map_err(of_store)?;
            self.is_over = page.after.is_none();
            self.after = page.after;
            let mut blobs = page.blobs.into_iter().map(messages::info).peekable();
            while blobs.peek().is_some() {
                let info = blobs.by_ref().take(IN_A_MESSAGE).collect();
                self.ready.push_back(ListContentResponse { info });
            }
        }
        Ok(())
    }
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
