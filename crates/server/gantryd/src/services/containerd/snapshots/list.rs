//! Lists of snapshots, which are read page by page.

use std::collections::VecDeque;

use gantry_api::containerd::snapshots::{ListSnapshotsRequest, ListSnapshotsResponse};
use gantry_domain::Namespace;
use gantry_store::{Store, filter::Filters};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Status};

use super::{Answers, messages};
use crate::{
    rpc::listing,
    services::containerd::{Surface, request, status::of_store},
};

/// Snapshots in one message, as containerd has it.
const IN_A_MESSAGE: usize = 100;

struct List {
    store: Store,
    namespace: Namespace,
    snapshotter: &'static str,
    filters: Filters,
    /// Where the next page begins.
    after: Option<String>,
    is_over: bool,
    ready: VecDeque<ListSnapshotsResponse>,
    /// Among the lists of its connection.
    _counted: Option<OwnedSemaphorePermit>,
}

pub(super) async fn snapshots(
    surface: &Surface,
    snapshotter: &'static str,
    request: &Request<ListSnapshotsRequest>,
) -> Result<Answers<ListSnapshotsResponse>, Status> {
    let mut list = List {
        namespace: request::namespace(request)?,
        filters: request::filters(&request.get_ref().filters)?,
        _counted: listing(request).await,
        store: surface.store().await,
        snapshotter,
        after: None,
        is_over: false,
        ready: VecDeque::new(),
    };
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

impl List {
    /// Reads pages until there is a message, or the list is over.
    async fn fill(&mut self) -> Result<(), Status> {
        while self.ready.is_empty() && !self.is_over {
            let (namespace, filters) = (&self.namespace, &self.filters);
            let after = self.after.take();
            let page = self.store.snapshot_page(namespace, self.snapshotter, filters, after);
            let page = page.await.map_err(of_store)?;
            self.is_over = page.after.is_none();
            self.after = page.after;
            let mut snapshots = page.snapshots.into_iter().map(messages::info).peekable();
            while snapshots.peek().is_some() {
                let info = snapshots.by_ref().take(IN_A_MESSAGE).collect();
                self.ready.push_back(ListSnapshotsResponse { info });
            }
        }
        Ok(())
    }
}
