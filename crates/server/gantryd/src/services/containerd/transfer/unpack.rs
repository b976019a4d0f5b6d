//! Layers of an image are unpacked into snapshots on top of each other.
//!
//! ```text
//! let Some(unpacker) = Unpacker::of_request(call, &store.unpacks).await? else { nothing is to be unpacked };
//! let Some(chain) = unpacker.chain(config, &layers).await? else { not an image for one of its platforms };
//! for layer in chain.present().await?..layers.len() {
//!     // As soon as the content has the layer:
//!     chain.add(layer).await?;
//! }
//! chain.finish().await?;
//! ```

use std::collections::BTreeMap;

use gantry_api::containerd::{
    event_types::{SnapshotCommit, SnapshotPrepare, SnapshotRemove},
    to_any, topic,
    types::transfer::UnpackConfiguration,
};
use gantry_content::unique;
use gantry_diff::Cancel;
use gantry_domain::{Kind, Mount};
use gantry_failpoints::{Point, reach};
use gantry_images::{Config, Descriptor, Platform, chain_ids, label, read_document};
use gantry_snapshots::Snapshotter;
use gantry_store::{Algorithm, Digest, LABEL_TARGET, Labels, NewSnapshot};
use tonic::Status;

use super::{Call, image_store::platform};
use crate::services::containerd::{
    diff,
    status::{invalid, of_images, of_snapshots, of_store, reported},
};

/// What is used if the request names none.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// The digest of a layer without compression, of its snapshot.
const LABEL_DIFF_ID: &str = "containerd.io/snapshot/diff-id";

/// The chain id of the layer below.
const LABEL_PARENT: &str = "containerd.io/snapshot/parent-chain-id";

/// Annotations of layers that begin so are labels of their snapshots.
const INHERITED: &str = "containerd.io/snapshot/";

/// By this, and the name of a snapshotter, a configuration refers to the snapshot of all its layers.
const LABEL_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// How often a snapshot is prepared anew whose layer was there, and has gone.
const ATTEMPTS: usize = 3;

/// Unpacks images for some platforms.
pub(super) struct Unpacker<'a> {
    call: &'a Call,
    /// Platforms, and into what their layers are unpacked.
    targets: Vec<(Platform, Snapshotter)>,
}

/// The layers of one image.
pub(super) struct Chain<'a> {
    call: &'a Call,
    snapshotter: &'a Snapshotter,
    config: Digest,
    layers: Vec<Layer>,
}

struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
    /// The name of its snapshot.
    chain_id: Digest,
}

impl<'a> Unpacker<'a> {
    /// `None` if the request asks for no unpacking.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if nothing of what it asks for can be unpacked here.
    pub(super) async fn of_request(
        call: &'a Call,
        unpacks: &[UnpackConfiguration],
    ) -> Result<Option<Self>, Status> {
        if unpacks.is_empty() {
            return Ok(None);
        }
        let (snapshots, own) = (call.surface.snapshots().await?, Platform::own());
        let mut targets = Vec::new();
        for UnpackConfiguration { platform: wanted, snapshotter } in unpacks {
            let wanted = wanted.clone().map(platform).unwrap_or_default();
            let name = if snapshotter.is_empty() { DEFAULT_SNAPSHOTTER } else { snapshotter };
            let is_known = snapshots.all().into_iter().any(|found| found.name() == name);
            // As in containerd, what cannot be unpacked is passed over if something else can.
            if own.is_system_of(&wanted) && is_known {
                targets.push((own.clone(), snapshots.named(name).map_err(of_snapshots)?));
            }
        }
        if targets.is_empty() {
            let problem = "unable to initialize unpacker: no unpack platforms defined";
            return Err(invalid("destination.unpacks", problem));
        }
        Ok(Some(Self { call, targets }))
    }

    /// What is to be done for an image of this configuration, which the content has, and these layers, which it need not have
    /// yet. `None` if there is nothing to unpack, or it is for another platform.
    pub(super) async fn chain(
        &'a self,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Option<Chain<'a>>, Status> {
        if layers.is_empty() {
            return Ok(None);
        }
        let call = self.call;
        let document = read_document(&call.content, &call.namespace, &config.digest).await;
        let document = document.map_err(of_images)?;
        let Config { platform, rootfs } =
            Config::parse(&config.digest, &document).map_err(of_images)?;
        if layers.len() != rootfs.diff_ids.len() {
            let (layers, diff_ids) = (layers.len(), rootfs.diff_ids.len());
            let message =
                format!("number of layers and diffIDs don't match: {layers} != {diff_ids}");
            return Err(Status::unknown(message));
        }
        let is_for = |(target, _): &&(Platform, Snapshotter)| target.is_system_of(&platform);
        let target = self.targets.iter().find(is_for);
        let Some((_, snapshotter)) = target.filter(|_| matches!(&*rootfs.kind, "" | "layers"))
        else {
            return Ok(None);
        };
        let chain_ids = chain_ids(&rootfs.diff_ids);
        let ids = rootfs.diff_ids.into_iter().zip(chain_ids);
        let layers = layers.iter().cloned().zip(ids);
        let layers = layers
            .map(|(descriptor, (diff_id, chain_id))| Layer { descriptor, diff_id, chain_id })
            .collect();
        Ok(Some(Chain { call, snapshotter, config: config.digest.clone(), layers }))
    }
}

impl Chain<'_> {
    /// How many of the layers, from the lowest on, are unpacked already. The transfer's lease keeps them.
    pub(super) async fn present(&self) -> Result<usize, Status> {
        let (call, name) = (self.call, self.snapshotter.name());
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let key = layer.chain_id.as_str();
            let kept = call.store().lease_snapshot(&call.namespace, name, key, &call.lease).await;
            if kept.map_err(of_store)? {
                return Ok(index + 1);
            }
        }
        Ok(0)
    }

    /// Unpacks the layer of this index, which the content has, on those below, which are unpacked. It is fine if
    /// somebody else unpacks the same meanwhile.
    pub(super) async fn add(&self, index: usize) -> Result<(), Status> {
        let layer = &self.layers[index];
        let parent = index.checked_sub(1).map(|below| &self.layers[below].chain_id);
        let labels = snapshot_labels(layer, parent);
        let Some((key, mounts)) = self.prepare(layer, parent, &labels).await? else {
            return Ok(());
        };
        let done = match self.apply(layer, &key, mounts).await {
            Ok(()) => self.commit(layer, &key, labels).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(true) => {}
            Ok(false) => self.remove(&key).await,
            Err(error) => {
                self.remove(&key).await;
                return Err(error);
            }
        }
        // Only now is it known to be true.
        let label = (label::UNCOMPRESSED.to_owned(), layer.diff_id.to_string());
        self.label(&layer.descriptor.digest, label).await?;
        reach(Point::ServerLayerLabelled);
        Ok(())
    }

    /// Has the configuration keep what was unpacked.
    pub(super) async fn finish(&self) -> Result<(), Status> {
        let Some(top) = self.layers.last() else { return Ok(()) };
        let label = format!("{LABEL_SNAPSHOT}{}", self.snapshotter.name());
        self.label(&self.config, (label, top.chain_id.to_string())).await?;
        reach(Point::ServerConfigurationLabelled);
        Ok(())
    }

    /// A new snapshot to unpack a layer to; `None` if the layer is there.
    async fn prepare(
        &self,
        layer: &Layer,
        parent: Option<&Digest>,
        labels: &Labels,
    ) -> Result<Option<(String, Vec<Mount>)>, Status> {
        let (call, snapshotter) = (self.call, self.snapshotter.name().to_owned());
        let parent = parent.map(Digest::to_string).unwrap_or_default();
        for attempt in 1.. {
            let (now, number) = unique();
            let key = format!("extract-{now}-{number} {}", layer.chain_id);
            let new = NewSnapshot {
                snapshotter: snapshotter.clone(),
                key: key.clone(),
                parent: parent.clone(),
                is_view: false,
                labels: labels.clone(),
                lease: Some(call.lease.clone()),
            };
            let error = match self.snapshotter.prepare(&call.namespace, new).await {
                Ok(mounts) => {
                    let event = SnapshotPrepare { key: key.clone(), parent, snapshotter };
                    self.publish(topic::SNAPSHOT_PREPARE, to_any(&event)).await;
                    return Ok(Some((key, mounts)));
                }
                Err(error) => error,
            };
            if error.kind() != Kind::AlreadyExists {
                let status = of_snapshots(error);
                return Err(reported(
                    &format!("failed to prepare extraction snapshot {key:?}"),
                    &status,
                ));
            }
            if self.snapshotter.stat(&call.namespace, layer.chain_id.as_str()).await.is_ok() {
                return Ok(None);
            }
            if attempt == ATTEMPTS {
                return Err(reported(
                    "unable to prepare extraction snapshot",
                    &of_snapshots(error),
                ));
            }
        }
        unreachable!("the attempts end")
    }

    /// Unpacks; stops when the caller is gone.
    async fn apply(&self, layer: &Layer, key: &str, mounts: Vec<Mount>) -> Result<(), Status> {
        let (call, Layer { descriptor, diff_id, .. }) = (self.call, layer);
        let Descriptor { digest, media_type, .. } = descriptor;
        let content = diff::Layer { digest: digest.clone(), media_type: media_type.clone() };
        let cancel = Cancel::default();
        let applying = diff::apply(
            &call.surface,
            &call.namespace,
            content,
            || Ok(mounts),
            false,
            cancel.clone(),
        );
        let mut applying = Box::pin(applying);
        let applied = tokio::select! {
            applied = &mut applying => applied,
            () = call.gone.wait() => {
                cancel.cancel();
                // Until then it writes to the snapshot.
                applying.await
            }
        };
        let applied = applied.map_err(|status| {
            let name = self.snapshotter.name();
            let what =
                format!("failed to extract layer ({media_type} {digest}) to {name} as {key:?}");
            reported(&what, &status)
        })?;
        let found = Digest::new(Algorithm::Sha256, &applied.sha256);
        if found != *diff_id {
            let message =
                format!("wrong diff id {found} calculated on extraction {diff_id}, desc {digest}");
            return Err(Status::unknown(message));
        }
        Ok(())
    }

    /// Gives the snapshot its name; whether nobody else has given another one that name.
    async fn commit(&self, layer: &Layer, key: &str, labels: Labels) -> Result<bool, Status> {
        let (call, name) = (self.call, layer.chain_id.as_str());
        let lease = Some(call.lease.clone());
        let committed = self.snapshotter.commit(&call.namespace, key, name, labels, lease).await;
        match committed {
            Ok(()) => {
                let (key, name) = (key.to_owned(), name.to_owned());
                let snapshotter = self.snapshotter.name().to_owned();
                let event = to_any(&SnapshotCommit { key, name, snapshotter });
                self.publish(topic::SNAPSHOT_COMMIT, event).await;
                Ok(true)
            }
            Err(error) if error.kind() == Kind::AlreadyExists => {
                let (store, snapshotter) = (call.store(), self.snapshotter.name());
                // The other transfer may end before this one.
                let kept = store.lease_snapshot(&call.namespace, snapshotter, name, &call.lease);
                match kept.await.map_err(of_store)? {
                    true => Ok(false),
                    false => Err(of_snapshots(error)),
                }
            }
            Err(error) => {
                Err(reported(&format!("failed to commit snapshot {key}"), &of_snapshots(error)))
            }
        }
    }

    /// Removes a snapshot that is not wanted any more.
    async fn remove(&self, key: &str) {
        let (call, lease) = (self.call, Some(self.call.lease.clone()));
        match self.snapshotter.remove(&call.namespace, key, lease).await {
            Ok(()) => {
                let (key, snapshotter) = (key.to_owned(), self.snapshotter.name().to_owned());
                let event = to_any(&SnapshotRemove { key, snapshotter });
                self.publish(topic::SNAPSHOT_REMOVE, event).await;
            }
            Err(error) => {
                tracing::warn!(%error, key, "a snapshot stays until the transfer's lease ends");
            }
        }
    }

    async fn label(&self, blob: &Digest, (label, value): (String, String)) -> Result<(), Status> {
        let mask = vec![format!("labels.{label}")];
        let labels = Labels::from([(label, value)]);
        let call = self.call;
        call.store().update_blob(&call.namespace, blob, labels, mask).await.map_err(of_store)?;
        Ok(())
    }

    async fn publish(&self, topic: &'static str, event: prost_types::Any) {
        self.call.surface.publish(&self.call.namespace, topic, event).await;
    }
}

/// The labels of a layer's snapshot.
fn snapshot_labels(layer: &Layer, parent: Option<&Digest>) -> Labels {
    let annotations = layer.descriptor.annotations.iter();
    let mut labels: BTreeMap<_, _> = annotations
        .filter(|(key, _)| key.starts_with(INHERITED) || *key == LABEL_TARGET)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.insert(LABEL_TARGET.to_owned(), layer.chain_id.to_string());
    labels.insert(LABEL_DIFF_ID.to_owned(), layer.diff_id.to_string());
    labels.extend(parent.map(|parent| (LABEL_PARENT.to_owned(), parent.to_string())));
    labels
}
