//! Lists of snapshots.

use std::sync::Arc;

use gantry_api::containerd::snapshots::{ListSnapshotsRequest, ListSnapshotsResponse};
use tonic::{Request, Status};

use super::messages;
use crate::{
    rpc::listing,
    services::containerd::{
        Surface,
        pages::{Answers, pages},
        request,
        status::of_store,
    },
};

pub(super) async fn snapshots(
    surface: &Surface,
    snapshotter: &'static str,
    request: &Request<ListSnapshotsRequest>,
) -> Result<Answers<ListSnapshotsResponse>, Status> {
    let namespace = request::namespace(request)?;
    let filters = request::filters(&request.get_ref().filters)?;
    let counted = listing(request).await;
    let of = Arc::new((surface.store().await, namespace, filters));
    let read = move |after| {
        let of = Arc::clone(&of);
        async move {
            let (store, namespace, filters) = &*of;
            let page = store.snapshot_page(namespace, snapshotter, filters, after).await;
            let page = page.map_err(of_store)?;
            Ok((page.snapshots.into_iter().map(messages::info).collect(), page.after))
        }
    };
    pages(counted, read, |info| ListSnapshotsResponse { info }).await
}
