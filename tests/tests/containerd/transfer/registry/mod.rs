//! Images that are pushed to Debian's registry, and pulled from it.

mod environment;
mod failpoints;
mod interrupted;
mod login;
mod proxy;
mod whole;

use std::path::Path;

use gantry_api::containerd::types::transfer::{ImageStore, OciRegistry, RegistryResolver};
use gantry_tests::docker_registry::{Kind, Registry};
use proxy::Proxy;
use tonic::Status;

use super::{any_name, archive, import, transfer, unpacked};
use crate::Bed;

/// What an image is called in a registry, which is asked in plain text.
fn reference(host: &str, name: &str) -> OciRegistry {
    let resolver =
        RegistryResolver { default_scheme: "http".to_owned(), ..RegistryResolver::default() };
    OciRegistry { reference: format!("{host}/{name}"), resolver: Some(resolver) }
}

/// The image of this name.
fn named(name: &str) -> ImageStore {
    ImageStore { name: name.to_owned(), ..ImageStore::default() }
}

/// Pulls an image by the name that it has in the registry, and unpacks it.
async fn pull(bed: &Bed, namespace: &str, from: &OciRegistry) -> Result<(), Status> {
    transfer(bed, namespace, from, &unpacked(named(&from.reference))).await
}

/// An archive of an image with a layer of so many bytes that cannot be made shorter.
fn large(work: &Path, bytes: usize) -> Vec<u8> {
    let files = archive::Files::new(work.join("large-layer"));
    let data: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(bytes).collect();
    files.put("data", &data);
    let layer = files.tar();
    let files = archive::Files::new(work.join("large"));
    files.put("config.json", &archive::config(std::slice::from_ref(&layer)));
    files.put("layer.tar", &layer);
    let image = serde_json::json!([{ "Config": "config.json", "RepoTags": ["large"], "Layers": ["layer.tar"] }]);
    files.put("manifest.json", image.to_string().as_bytes());
    files.tar()
}

/// A registry with an image with a large layer, pushed by a server that is gone; gives the layer's digest.
async fn with_large(directory: &Path, bytes: usize) -> Option<(Registry, String)> {
    let registry = Registry::start(directory, Kind::Plain).await?;
    let bed = Bed::start().await?;
    let archive = large(bed.server.work(), bytes);
    import(&bed, "ns", &archive, &any_name(false)).await.unwrap();
    let from = named("docker.io/library/large:latest");
    transfer(&bed, "ns", &from, &reference(&registry.host(), "large:v1")).await.unwrap();
    let layer = registry.answered("PUT /v2/large/blobs/uploads/");
    assert_eq!(layer.len(), 2, "a configuration and a layer: {layer:?}");
    let layer = std::fs::read(bed.server.work().join("large/layer.tar")).unwrap();
    bed.server.finish().await;
    Some((registry, archive::sha256(&layer)))
}
