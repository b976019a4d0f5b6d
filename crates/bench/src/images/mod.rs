//! Images, and a client of the services that have to do with them, of containerd itself and of Gantry alike.

mod files;
mod registry;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
pub(crate) use files::{Blob, Compression, Image, layer, layers};
use gantry_api::containerd::{
    LEASE_METADATA, NAMESPACE_METADATA,
    content::{WriteAction, WriteContentRequest, content_client::ContentClient},
    diff::{ApplyRequest, diff_client::DiffClient},
    images::{DeleteImageRequest, images_client::ImagesClient},
    leases::{CreateRequest, DeleteRequest, leases_client::LeasesClient},
    snapshots::{
        CleanupRequest, CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
        snapshots_client::SnapshotsClient,
    },
    to_any,
    transfer::{TransferRequest, transfer_client::TransferClient},
    types::{
        Descriptor, Platform,
        transfer::{ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration},
    },
};
pub(crate) use registry::Registry;
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

use crate::gantry::connect;

const NAMESPACE: &str = "default";
const SNAPSHOTTER: &str = "overlayfs";

/// The lease whose end is waited for until a collection is done.
const COLLECTS: &str = "collects";

/// How much of a blob goes into a message.
const PIECE: usize = 1 << 20;

/// A connection to one of the servers.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    channel: Channel,
    pub(crate) socket: PathBuf,
}

impl Images {
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { channel: connect(socket).await?, socket: socket.to_owned() })
    }

    /// A lease, which keeps what is written under it.
    pub(crate) async fn lease(&self, id: &str) -> Result<()> {
        let request = CreateRequest { id: id.to_owned(), ..CreateRequest::default() };
        let mut leases = LeasesClient::new(self.channel.clone());
        leases.create(of(request)).await.context("create a lease")?;
        Ok(())
    }

    /// Deletes a lease, and waits until what only it has kept is collected.
    pub(crate) async fn release(&self, id: &str) -> Result<()> {
        let request = DeleteRequest { id: id.to_owned(), sync: true };
        let mut leases = LeasesClient::new(self.channel.clone());
        leases.delete(of(request)).await.context("delete a lease")?;
        Ok(())
    }

    /// Writes a blob of this digest, or of whatever it has, under a lease.
    pub(crate) async fn write(
        &self,
        lease: &str,
        reference: &str,
        digest: &str,
        data: &[u8],
    ) -> Result<()> {
        let message = |offset: usize, data: &[u8], action: WriteAction| WriteContentRequest {
            action: action.into(),
            r#ref: reference.to_owned(),
            offset: offset as i64,
            data: data.to_vec(),
            ..WriteContentRequest::default()
        };
        let pieces = data.chunks(PIECE).enumerate();
        let mut messages: Vec<_> = pieces
            .map(|(number, piece)| message(number * PIECE, piece, WriteAction::Write))
            .collect();
        let expected = digest.to_owned();
        let commit = message(data.len(), &[], WriteAction::Commit);
        messages.push(WriteContentRequest { total: data.len() as i64, expected, ..commit });
        let mut request = of(tokio_stream::iter(messages));
        request.metadata_mut().insert(LEASE_METADATA, lease.parse().context("a lease's id")?);
        let mut content = ContentClient::new(self.channel.clone());
        let mut answers = content.write(request).await.context("write a blob")?.into_inner();
        while answers.message().await.context("write a blob")?.is_some() {}
        Ok(())
    }

    /// Unpacks a layer that the content has into a new snapshot.
    pub(crate) async fn unpack(&self, layer: &Blob, name: &str) -> Result<()> {
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let (snapshotter, key) = (SNAPSHOTTER.to_owned(), format!("{name}-active"));
        let prepare = PrepareSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: key.clone(),
            labels: [("containerd.io/gc.root".to_owned(), "bench".to_owned())].into(),
            ..PrepareSnapshotRequest::default()
        };
        let prepared = snapshots.prepare(of(prepare)).await.context("prepare a snapshot")?;
        let diff = Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size as i64,
            ..Descriptor::default()
        };
        let mounts = prepared.into_inner().mounts;
        let apply = ApplyRequest { diff: Some(diff), mounts, ..ApplyRequest::default() };
        let applied = DiffClient::new(self.channel.clone()).apply(of(apply)).await;
        let applied = applied.context("apply a layer")?.into_inner().applied;
        let found = applied.map(|layer| layer.digest).unwrap_or_default();
        anyhow::ensure!(found == layer.diff_id, "{found} was unpacked, not {}", layer.diff_id);
        let commit = CommitSnapshotRequest {
            snapshotter,
            key,
            name: name.to_owned(),
            labels: [("containerd.io/gc.root".to_owned(), "bench".to_owned())].into(),
            ..CommitSnapshotRequest::default()
        };
        snapshots.commit(of(commit)).await.context("commit a snapshot")?;
        Ok(())
    }

    /// Removes a snapshot, and waits until its files are gone.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let (snapshotter, key) = (SNAPSHOTTER.to_owned(), name.to_owned());
        let remove = RemoveSnapshotRequest { snapshotter, key };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        snapshots.remove(of(remove)).await.context("remove a snapshot")?;
        self.clean_up().await
    }

    /// Waits until no removed files are left: containerd leaves them to its next collection, which the end of a lease is.
    pub(crate) async fn clean_up(&self) -> Result<()> {
        self.lease(COLLECTS).await?;
        self.release(COLLECTS).await?;
        let cleanup = CleanupRequest { snapshotter: SNAPSHOTTER.to_owned() };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        match snapshots.cleanup(of(cleanup)).await {
            // containerd 1.6: its collection has removed the files.
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            answer => answer.map(|_| ()).context("clean up"),
        }
    }

    /// Has the server pull an image, and unpack it.
    pub(crate) async fn pull(&self, reference: &str) -> Result<()> {
        let default_scheme = "http".to_owned();
        let resolver = RegistryResolver { default_scheme, ..RegistryResolver::default() };
        let reference = reference.to_owned();
        let from = OciRegistry { reference: reference.clone(), resolver: Some(resolver) };
        let (os, architecture) = ("linux".to_owned(), files::architecture().to_owned());
        let platform = Some(Platform { os, architecture, ..Platform::default() });
        let unpacks = vec![UnpackConfiguration { platform, snapshotter: SNAPSHOTTER.to_owned() }];
        let to = ImageStore { name: reference, unpacks, ..ImageStore::default() };
        let (source, destination) = (Some(to_any(&from)), Some(to_any(&to)));
        let request = TransferRequest { source, destination, options: None };
        let mut transfer = TransferClient::new(self.channel.clone());
        transfer.transfer(of(request)).await.context("pull")?;
        Ok(())
    }

    /// Removes an image with all that it consists of.
    pub(crate) async fn forget(&self, name: &str) -> Result<()> {
        let request = DeleteImageRequest { name: name.to_owned(), sync: true, target: None };
        let mut images = ImagesClient::new(self.channel.clone());
        images.delete(of(request)).await.context("delete an image")?;
        self.clean_up().await
    }
}

fn of<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let namespace = MetadataValue::from_static(NAMESPACE);
    request.metadata_mut().insert(NAMESPACE_METADATA, namespace);
    request
}
