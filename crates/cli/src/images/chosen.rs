//! The image of one platform that a container is made of.

use gantry_api::containerd::images::Image;

use super::manifest::{Config, Descriptor, Index, Kind, Manifest, Platform, parse};
use crate::{blobs::Blobs, failure::Failure};

/// How many indexes may be in each other.
const DEEPEST: usize = 4;

/// The image of one platform.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) manifest: Manifest,
    pub(crate) config: Config,
}

/// Reads the image for a platform.
pub(crate) async fn choose(
    blobs: &Blobs,
    namespace: &str,
    image: &Image,
    platform: &Platform,
) -> Result<Chosen, Failure> {
    let Some(target) = &image.target else {
        return Err(Failure::new(format!("{} has no target", image.name)));
    };
    let (digest, media_type) = (target.digest.clone(), target.media_type.clone());
    let mut found = Descriptor { digest, media_type, ..Descriptor::default() };
    for _ in 0..DEEPEST {
        let data = blobs.small(namespace, &found.digest).await?;
        let data = data.ok_or_else(|| missing(image, &found.digest))?;
        match Kind::of(&found.media_type) {
            Kind::Index => {
                let index: Index = parse(&found.digest, &data)?;
                let fits = |it: &&Descriptor| it.platform.as_ref().is_none_or(|p| p.fits(platform));
                let Some(next) = index.manifests().iter().find(fits) else {
                    return Err(Failure::new(unavailable(image, &index, platform)));
                };
                found = next.clone();
            }
            Kind::Manifest => {
                let manifest: Manifest = parse(&found.digest, &data)?;
                let digest = &manifest.config.digest;
                let data = blobs.small(namespace, digest).await?;
                let config = parse(digest, &data.ok_or_else(|| missing(image, digest))?)?;
                return check(image, Chosen { manifest, config });
            }
            Kind::Other => {
                let problem = format!("{}: {} is no image's", image.name, found.media_type);
                return Err(Failure::new(problem));
            }
        }
    }
    Err(Failure::new(format!("{}: more than {DEEPEST} indexes in each other", image.name)))
}

fn check(image: &Image, chosen: Chosen) -> Result<Chosen, Failure> {
    let (layers, ids) = (chosen.manifest.layers().len(), chosen.config.rootfs.diff_ids().len());
    if layers == ids {
        return Ok(chosen);
    }
    let problem =
        format!("{}: the manifest has {layers} layers, the configuration {ids}", image.name);
    Err(Failure::new(problem))
}

fn missing(image: &Image, digest: &str) -> Failure {
    Failure::new(format!("{}: {digest} is not there: pull or import the image again", image.name))
}

fn unavailable(image: &Image, index: &Index, platform: &Platform) -> String {
    let platforms = index.manifests().iter().filter_map(|it| it.platform.as_ref());
    let known: Vec<_> = platforms.filter(|it| it.is_known()).map(ToString::to_string).collect();
    format!("{} is not for {platform}, but for {}", image.name, known.join(", "))
}
