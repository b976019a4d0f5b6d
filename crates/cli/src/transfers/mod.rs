//! Transfers of images, in containerd's API: between the image store and archives or registries.

mod archive;
pub(crate) mod bars;
pub(crate) mod registry;
mod stream;

use gantry_api::containerd::{
    from_any,
    transfer::{TransferOptions, TransferRequest, transfer_client::TransferClient},
    types::{
        self,
        transfer::{ImageReference, ImageStore, Progress, UnpackConfiguration},
    },
};
use gantry_client::Client;
use prost_types::Any;

pub(crate) use self::{
    archive::{receive, send},
    stream::Stream,
};
use crate::{
    containerd::{about, failed},
    failure::Failure,
    images::manifest::Platform,
};

/// Has the server transfer something, and tells what it says meanwhile.
pub(crate) async fn transfer(
    client: &Client,
    namespace: &str,
    what: &str,
    (source, destination): (Any, Any),
    mut told: impl FnMut(Progress),
) -> Result<(), Failure> {
    let mut progress = Stream::open(client, namespace).await?;
    let options = Some(TransferOptions { progress_stream: progress.id().to_owned() });
    let (source, destination) = (Some(source), Some(destination));
    let request = about(namespace, TransferRequest { source, destination, options })?;
    let mut transfers = TransferClient::new(client.channel());
    let transferred = async {
        let done = transfers.transfer(request).await;
        done.map(drop).map_err(|status| failed(what, &status))
    };
    let listening = async {
        while let Some(message) = progress.next().await {
            if let Ok(Some(message)) = from_any::<Progress>(&message) {
                told(message);
            }
        }
        // Whether the transfer has succeeded, only its answer tells.
        Ok(())
    };
    tokio::try_join!(transferred, listening).map(drop)
}

/// Where images are put. Without a platform, those of all platforms, not unpacked.
pub(crate) fn store(unpack: Option<(&Platform, String)>) -> ImageStore {
    let unpacks = unpack.map(|(platform, snapshotter)| UnpackConfiguration {
        platform: Some(message(platform)),
        snapshotter,
    });
    ImageStore { unpacks: unpacks.into_iter().collect(), ..ImageStore::default() }
}

/// A name that an image may have already.
pub(crate) fn name(name: &str) -> ImageReference {
    ImageReference { name: name.to_owned(), allow_overwrite: true, ..ImageReference::default() }
}

pub(crate) fn message(platform: &Platform) -> types::Platform {
    let Platform { os, architecture, variant } = platform.clone();
    let variant = variant.unwrap_or_default();
    types::Platform { os, architecture, variant, ..types::Platform::default() }
}
