//! Snapshots: file systems in layers. Their files are `gantry-snapshots`'.

mod list;
mod messages;

use gantry_api::containerd::{
    event_types::{SnapshotCommit, SnapshotPrepare, SnapshotRemove},
    snapshots::{
        CleanupRequest, CommitSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse,
        MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse,
        RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest,
        UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest,
        ViewSnapshotResponse, snapshots_server,
    },
    to_any, topic,
    types::Mount,
};
use gantry_domain::Namespace;
use gantry_snapshots::{SnapshotError, Snapshotter};
use gantry_store::{Container, NewSnapshot};
use tonic::{Request, Response, Status};

use super::{
    Surface,
    pages::Answers,
    request,
    status::{of_snapshots, of_store},
    to_the_end,
};

/// The service.
pub(super) struct Service(pub(super) Surface);

/// The mounts of a container's snapshot; none if the container has no snapshot.
pub(super) async fn rootfs(
    surface: &Surface,
    namespace: &Namespace,
    container: &Container,
) -> Result<Vec<Mount>, Status> {
    if container.snapshot_key.is_empty() {
        return Ok(Vec::new());
    }
    let found = surface.snapshots().await?.named(&container.snapshotter).map_err(of_snapshots)?;
    let mounts = found.mounts(namespace, &container.snapshot_key).await.map_err(of_snapshots)?;
    Ok(messages::mounts(mounts))
}

impl Service {
    async fn snapshotter(&self, name: &str) -> Result<Snapshotter, Status> {
        self.0.snapshots().await?.named(name).map_err(of_snapshots)
    }
}

#[tonic::async_trait]
impl snapshots_server::Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let PrepareSnapshotRequest { snapshotter, key, parent, labels } = request.into_inner();
        let found = self.snapshotter(&snapshotter).await?;
        let surface = self.0.clone();
        // Before anything is changed: without the supervisor no event of it could be published.
        self.0.supervisor().await;
        let prepared = to_the_end(async move {
            let event = SnapshotPrepare {
                key: key.clone(),
                parent: parent.clone(),
                snapshotter: snapshotter.clone(),
            };
            let new = NewSnapshot { snapshotter, key, parent, is_view: false, labels, lease };
            let mounts = found.prepare(&namespace, new).await.map_err(of_snapshots)?;
            surface.publish(&namespace, topic::SNAPSHOT_PREPARE, to_any(&event)).await;
            Ok(messages::mounts(mounts))
        });
        let mounts = prepared.await?;
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let ViewSnapshotRequest { snapshotter, key, parent, labels } = request.into_inner();
        let found = self.snapshotter(&snapshotter).await?;
        let new = NewSnapshot { snapshotter, key, parent, is_view: true, labels, lease };
        let made = to_the_end(async move {
            let mounts = found.prepare(&namespace, new).await.map_err(of_snapshots)?;
            Ok(messages::mounts(mounts))
        });
        let mounts = made.await?;
        Ok(Response::new(ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<MountsRequest>,
    ) -> Result<Response<MountsResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let MountsRequest { snapshotter, key } = request.get_ref();
        let found = self.snapshotter(snapshotter).await?;
        let mounts = found.mounts(&namespace, key).await.map_err(of_snapshots)?;
        Ok(Response::new(MountsResponse { mounts: messages::mounts(mounts) }))
    }

    async fn commit(
        &self,
        request: Request<CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let CommitSnapshotRequest { snapshotter, name, key, labels, parent } = request.into_inner();
        let found = self.snapshotter(&snapshotter).await?;
        if !parent.is_empty() {
            let snapshot = found.stat(&namespace, &key).await.map_err(of_snapshots)?;
            if snapshot.parent != parent {
                return Err(of_snapshots(SnapshotError::OtherParent));
            }
        }
        let surface = self.0.clone();
        // Before anything is changed: without the supervisor no event of it could be published.
        self.0.supervisor().await;
        let committed = to_the_end(async move {
            let committed = found.commit(&namespace, &key, &name, labels, lease).await;
            committed.map_err(of_snapshots)?;
            let event = SnapshotCommit { key, name, snapshotter };
            surface.publish(&namespace, topic::SNAPSHOT_COMMIT, to_any(&event)).await;
            Ok(())
        });
        committed.await.map(Response::new)
    }

    async fn remove(
        &self,
        request: Request<RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let RemoveSnapshotRequest { snapshotter, key } = request.into_inner();
        let found = self.snapshotter(&snapshotter).await?;
        let surface = self.0.clone();
        // Before anything is changed: without the supervisor no event of it could be published.
        self.0.supervisor().await;
        let removed = to_the_end(async move {
            found.remove(&namespace, &key, lease).await.map_err(of_snapshots)?;
            let event = SnapshotRemove { key, snapshotter };
            surface.publish(&namespace, topic::SNAPSHOT_REMOVE, to_any(&event)).await;
            Ok(())
        });
        removed.await.map(Response::new)
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let StatSnapshotRequest { snapshotter, key } = request.get_ref();
        let found = self.snapshotter(snapshotter).await?;
        let snapshot = found.stat(&namespace, key).await.map_err(of_snapshots)?;
        Ok(Response::new(StatSnapshotResponse { info: Some(messages::info(snapshot)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let UpdateSnapshotRequest { snapshotter, info, update_mask } = request.into_inner();
        self.snapshotter(&snapshotter).await?;
        let info = info.unwrap_or_default();
        let mask = update_mask.unwrap_or_default().paths;
        let store = self.0.store().await;
        let updated =
            store.update_snapshot(&namespace, &snapshotter, &info.name, info.labels, mask).await;
        let info = Some(messages::info(updated.map_err(of_store)?));
        Ok(Response::new(UpdateSnapshotResponse { info }))
    }

    type ListStream = Answers<ListSnapshotsResponse>;

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let found = self.snapshotter(&request.get_ref().snapshotter).await?;
        list::snapshots(&self.0, found.name(), &request).await.map(Response::new)
    }

    async fn usage(
        &self,
        request: Request<UsageRequest>,
    ) -> Result<Response<UsageResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let UsageRequest { snapshotter, key } = request.get_ref();
        let found = self.snapshotter(snapshotter).await?;
        let usage = found.usage(&namespace, key).await.map_err(of_snapshots)?;
        Ok(Response::new(messages::usage(usage)))
    }

    async fn cleanup(&self, request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        request::namespace(&request)?;
        let found = self.snapshotter(&request.get_ref().snapshotter).await?;
        let cleaned = to_the_end(async move { found.cleanup().await.map_err(of_snapshots) });
        cleaned.await.map(Response::new)
    }
}
