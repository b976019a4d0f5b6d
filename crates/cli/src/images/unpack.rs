//! Makes snapshots of an image's layers.
//!
//! ```text
//! layer      diff id                snapshot, named by its chain id
//! lowest     D1                     D1
//! second     D2                     sha256(D1 D2), parent D1
//! third      D3                     sha256(sha256(D1 D2) D3), parent sha256(D1 D2)
//! ```
//! The names are those of the OCI image specification ("ChainID"), which all clients of containerd use: a layer that one of
//! them has unpacked is there for all.

use gantry_api::containerd::{
    diff::{ApplyRequest, diff_client::DiffClient},
    types,
};
use gantry_client::Client;
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

use super::{chosen::Chosen, manifest::Descriptor};
use crate::{
    blobs::Blobs,
    containerd::{failed, leased},
    failure::Failure,
    ids,
    leases::Lease,
    snapshots::{Made, Snapshots},
};

/// Where layers are unpacked to, and what keeps them meanwhile.
pub(crate) struct Unpacker<'a> {
    channel: Channel,
    blobs: Blobs,
    snapshots: &'a Snapshots,
    lease: &'a Lease,
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(client: &Client, snapshots: &'a Snapshots, lease: &'a Lease) -> Self {
        Unpacker { channel: client.channel(), blobs: Blobs::of(client), snapshots, lease }
    }

    /// Unpacks what is not unpacked yet. The name of the uppermost snapshot; none for an image without layers.
    pub(crate) async fn unpack(&self, image: &Chosen) -> Result<Option<String>, Failure> {
        let diff_ids = image.config.rootfs.diff_ids();
        let chain = chain(diff_ids);
        let Some(top) = chain.last() else { return Ok(None) };
        // From here on a collection keeps it, also one that begins after it was found.
        self.lease.add(&format!("snapshots/{}", self.snapshots.snapshotter()), top).await?;
        if !self.snapshots.is_there(top).await? {
            let mut parent = "";
            for ((layer, diff_id), name) in image.manifest.layers().iter().zip(diff_ids).zip(&chain)
            {
                self.layer(layer, diff_id, parent, name).await?;
                parent = name;
            }
        }
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshots.snapshotter());
        let config = &image.manifest.config.digest;
        self.blobs.label(self.snapshots.namespace(), config, (label, top.clone())).await?;
        Ok(Some(top.clone()))
    }

    async fn layer(
        &self,
        layer: &Descriptor,
        diff_id: &str,
        parent: &str,
        name: &str,
    ) -> Result<(), Failure> {
        let key = format!("extract-{} {name}", ids::random()?);
        // Another client may be unpacking the same layer: who is first to commit it has made it.
        let prepared = self.snapshots.prepare_layer(self.lease, &key, parent, name).await?;
        let Made::New(mounts) = prepared else { return Ok(()) };
        let committed = async {
            self.apply(layer, diff_id, mounts).await?;
            self.snapshots.commit(self.lease, &key, name).await
        };
        match committed.await {
            Ok(Made::New(())) => {}
            Ok(Made::Before) => self.snapshots.remove(&key).await?,
            Err(failure) => {
                // Otherwise it is collected with the lease.
                let _ = self.snapshots.remove(&key).await;
                return Err(failure);
            }
        }
        let label = ("containerd.io/uncompressed".to_owned(), diff_id.to_owned());
        self.blobs.label(self.snapshots.namespace(), &layer.digest, label).await
    }

    async fn apply(
        &self,
        layer: &Descriptor,
        diff_id: &str,
        mounts: Vec<types::Mount>,
    ) -> Result<(), Failure> {
        let what = format!("unpack {}", layer.digest);
        let Descriptor { digest, media_type, size, .. } = layer.clone();
        let diff = types::Descriptor { digest, media_type, size, ..Default::default() };
        let request = ApplyRequest { diff: Some(diff), mounts, ..ApplyRequest::default() };
        let request = leased(self.snapshots.namespace(), self.lease.id(), request)?;
        let applied = DiffClient::new(self.channel.clone()).apply(request).await;
        let applied = applied.map_err(|status| failed(&what, &status))?.into_inner().applied;
        let found = applied.unwrap_or_default().digest;
        if found == diff_id {
            return Ok(());
        }
        let problem = format!("its content has the digest {found}, the configuration {diff_id}");
        Err(Failure::new(format!("{what}: {problem}")))
    }
}

/// The names of the snapshots of these layers.
fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(parent) => {
                format!("sha256:{:x}", Sha256::digest(format!("{parent} {diff_id}")))
            }
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_id_is_of_all_layers_below() {
        let diff_ids = ["sha256:a", "sha256:b"].map(str::to_owned);
        // printf 'sha256:a sha256:b' | sha256sum
        let second = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8";
        assert_eq!(chain(&diff_ids), ["sha256:a", second]);
        assert!(chain(&[]).is_empty());
    }
}
