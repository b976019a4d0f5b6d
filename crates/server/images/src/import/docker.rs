//! What `docker save` writes: a list of images, each with its configuration and layers, of which manifests are made.

use std::collections::{BTreeMap, HashMap};

use gantry_store::{Digest, StoreError, filter::Filters};
use serde::{Deserialize, Serialize};

use super::{Import, files::Written};
use crate::{
    Config, Descriptor, ImageError,
    document::or_default,
    label, media_type,
    name::{ANNOTATION, LAYOUT_ANNOTATION, Reference, layout_name},
    read_document,
};

/// Names in one archive, an image without one counted as one.
const MOST_NAMES: usize = 4096;

/// Layers of all images in one archive.
const MOST_LAYERS: usize = 65_536;

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    #[serde(default)]
    config: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    layers: Vec<String>,
}

/// A manifest as it is written. The order of the fields is containerd's, so that the digest is, too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDocument<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// An index as it is written, likewise.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexDocument<'a> {
    schema_version: u8,
    manifests: &'a [Descriptor],
}

/// Makes manifests of what was written, and an index of them.
pub(super) async fn index(import: &Import, written: Written) -> Result<Descriptor, ImageError> {
    let Written { mut blobs, links, docker, .. } = written;
    let Some(docker) = docker else { return Err(archive("has no images that can be recognised")) };
    let saved: Option<Vec<Saved>> = serde_json::from_slice(&docker)
        .map_err(|error| archive(format!("has a manifest.json that is none: {error}")))?;
    let Some(saved) = saved else { return Err(archive("has no images that can be recognised")) };
    check(&saved)?;
    for (name, target) in links {
        let Some(blob) = blobs.get(&target).cloned() else {
            return Err(archive(format!(
                "has a link {name:?} to {target:?}, which it does not have"
            )));
        };
        blobs.insert(name, blob);
    }
    let mut packed = Packed::find(import, &saved, &blobs).await?;
    let mut manifests = Vec::new();
    for image in saved {
        let Saved { config, repo_tags, layers } = image;
        let config = blob(&blobs, &config, "a configuration")?;
        let config = Descriptor::new(media_type::DOCKER_CONFIG, config.0, config.1);
        let layers = packed.layers(import, &blobs, &layers).await?;
        let document = ManifestDocument {
            schema_version: 2,
            media_type: media_type::DOCKER_MANIFEST,
            config: &config,
            layers: &layers,
        };
        let document = written_as_json(&document)?;
        let mut manifest = import.write_document(media_type::DOCKER_MANIFEST, document).await?;
        let document = read_document(&import.content, &import.namespace, &config.digest).await?;
        let platform = Config::parse(&config.digest, &document)?.platform.normalized();
        manifest.platform = Some(platform);
        if repo_tags.is_empty() {
            manifests.push(manifest);
            continue;
        }
        for tag in repo_tags {
            let name = Reference::parse(&tag)?.normalized();
            let layout_name = layout_name(&name);
            let names = [(ANNOTATION, name), (LAYOUT_ANNOTATION, layout_name)];
            let annotations = names.map(|(key, value)| (key.to_owned(), value));
            manifests.push(Descriptor { annotations: annotations.into(), ..manifest.clone() });
        }
    }
    let document = written_as_json(&IndexDocument { schema_version: 2, manifests: &manifests })?;
    import.write_document(media_type::INDEX, document).await
}

/// Nobody saves so much at a time. The manifests and their index have to be documents that are read.
fn check(saved: &[Saved]) -> Result<(), ImageError> {
    let layers: usize = saved.iter().map(|image| image.layers.len()).sum();
    let names: usize = saved.iter().map(|image| image.repo_tags.len().max(1)).sum();
    for (count, most, what) in
        [(names, MOST_NAMES, "names of images"), (layers, MOST_LAYERS, "layers")]
    {
        if count > most {
            return Err(archive(format!("has {count} {what}, at most {most} are read")));
        }
    }
    Ok(())
}

/// Layers as they are in content.
struct Packed {
    /// By the digest in the archive.
    found: HashMap<Digest, Descriptor>,
}

impl Packed {
    /// Those of the archive's layers that the namespace has with compression.
    async fn find(
        import: &Import,
        saved: &[Saved],
        blobs: &HashMap<String, (Digest, u64)>,
    ) -> Result<Self, ImageError> {
        let names = saved.iter().flat_map(|image| &image.layers);
        let wanted: BTreeMap<&str, &Digest> = names
            .filter_map(|name| blobs.get(name))
            .map(|(digest, _)| (digest.as_str(), digest))
            .collect();
        let mut found = HashMap::new();
        let filters = Filters::parse(&[format!("labels.{:?}", label::UNCOMPRESSED)])
            .map_err(StoreError::from)?;
        let (store, mut after) = (import.content.store(), None);
        loop {
            let page = store.blob_page(&import.namespace, &filters, after).await?;
            for blob in page.blobs {
                let digest = blob.labels.get(label::UNCOMPRESSED);
                let Some(digest) = digest.and_then(|digest| wanted.get(&**digest)) else {
                    continue;
                };
                // It may be collected until the lease has it.
                let lease = Some(import.lease.clone());
                if store.lease_blob(&import.namespace, &blob.digest, lease).await? {
                    let media_type = layer_type(import, &blob.digest).await?;
                    let layer = Descriptor::new(media_type, blob.digest, blob.size);
                    found.insert((*digest).clone(), layer);
                }
            }
            after = page.after;
            if after.is_none() {
                return Ok(Self { found });
            }
        }
    }

    /// Descriptors of an image's layers.
    async fn layers(
        &mut self,
        import: &Import,
        blobs: &HashMap<String, (Digest, u64)>,
        names: &[String],
    ) -> Result<Vec<Descriptor>, ImageError> {
        let mut layers = Vec::new();
        for name in names {
            import.unless_stopped()?;
            let (digest, size) = blob(blobs, name, "a layer")?;
            let layer = match self.found.get(&digest) {
                Some(layer) => layer.clone(),
                None => {
                    let layer = layer(import, digest.clone(), size).await?;
                    self.found.insert(digest, layer.clone());
                    layer
                }
            };
            layers.push(layer);
        }
        Ok(layers)
    }
}

/// A layer of the archive, which is compressed if that is asked for.
async fn layer(import: &Import, digest: Digest, size: u64) -> Result<Descriptor, ImageError> {
    let media_type = layer_type(import, &digest).await?;
    if media_type == media_type::DOCKER_LAYER && import.force_compress {
        return import.compress(&digest).await;
    }
    Ok(Descriptor::new(media_type, digest, size))
}

/// The media type of a layer, which its first bytes tell. As in containerd, that of gzip stands for all compressions.
async fn layer_type(import: &Import, digest: &Digest) -> Result<&'static str, ImageError> {
    let mut reader = import.content.read(&import.namespace, digest, 0, Some(4)).await?;
    let begin = reader.next().await?.unwrap_or_default();
    Ok(match *begin {
        [0x1f, 0x8b, 0x08, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            media_type::DOCKER_LAYER_GZIP
        }
        _ => media_type::DOCKER_LAYER,
    })
}

fn blob(
    blobs: &HashMap<String, (Digest, u64)>,
    name: &str,
    what: &str,
) -> Result<(Digest, u64), ImageError> {
    let missing = || archive(format!("has an image with {what} {name:?}, which it does not have"));
    blobs.get(name).cloned().ok_or_else(missing)
}

fn written_as_json(document: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document).map_err(|error| archive(format!("has no manifest: {error}")))
}

fn archive(problem: impl Into<String>) -> ImageError {
    ImageError::Archive(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_bounded() {
        let image = |names: usize, layers: usize| Saved {
            config: String::new(),
            repo_tags: vec![String::new(); names],
            layers: vec![String::new(); layers],
        };
        assert!(check(&[image(4000, 65_000), image(0, 536)]).is_ok());
        let error = check(&[image(4096, 0), image(0, 0)]).unwrap_err();
        let message =
            "the archive has 4097 names of images, at most 4096 are read: invalid argument";
        assert_eq!(error.to_string(), message);
        assert!(check(&[image(0, 65_537)]).is_err());
    }
}
