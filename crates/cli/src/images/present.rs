//! What is there of an image.

use std::collections::{BTreeMap, HashMap};

use gantry_api::containerd::{content::Info, images::Image};

use super::manifest::{Config, Descriptor, Index, Kind, Manifest, Platform, parse};
use crate::{blobs::Blobs, failure::Failure};

/// The blobs of a namespace, and those of them that were read.
pub(crate) struct Library<'a> {
    blobs: &'a Blobs,
    namespace: &'a str,
    sizes: HashMap<String, u64>,
}

/// What is there of an image.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Sizes by digest: a blob that occurs twice counts once.
    pub(crate) blobs: BTreeMap<String, u64>,
    /// Those of which everything is there.
    pub(crate) platforms: Vec<String>,
}

impl Present {
    pub(crate) fn size(&self) -> u64 {
        self.blobs.values().sum()
    }
}

impl<'a> Library<'a> {
    pub(crate) async fn of(blobs: &'a Blobs, namespace: &'a str) -> Result<Library<'a>, Failure> {
        Ok(Library::with(blobs, namespace, &blobs.list(namespace).await?))
    }

    /// With a list of the blobs that was made before.
    pub(crate) fn with(blobs: &'a Blobs, namespace: &'a str, infos: &[Info]) -> Library<'a> {
        let size = |info: &Info| (info.digest.clone(), u64::try_from(info.size).unwrap_or(0));
        Library { blobs, namespace, sizes: infos.iter().map(size).collect() }
    }

    /// What is there of an image. A blob that is deleted meanwhile is not there.
    pub(crate) async fn present(&self, image: &Image) -> Result<Present, Failure> {
        let mut present = Present::default();
        let Some(target) = &image.target else { return Ok(present) };
        let (digest, media_type) = (target.digest.clone(), target.media_type.clone());
        let mut waiting = vec![Descriptor { digest, media_type, ..Descriptor::default() }];
        while let Some(next) = waiting.pop() {
            if present.blobs.contains_key(&next.digest) || !self.take(&next, &mut present) {
                continue;
            }
            match Kind::of(&next.media_type) {
                Kind::Index => {
                    if let Some(index) = self.read::<Index>(&next.digest).await? {
                        waiting.extend(index.manifests().iter().cloned());
                    }
                }
                Kind::Manifest => self.manifest(&next, &mut present).await?,
                Kind::Other => {}
            }
        }
        present.platforms.sort_unstable();
        present.platforms.dedup();
        Ok(present)
    }

    async fn manifest(&self, found: &Descriptor, present: &mut Present) -> Result<(), Failure> {
        let Some(manifest) = self.read::<Manifest>(&found.digest).await? else { return Ok(()) };
        let mut is_whole = self.take(&manifest.config, present);
        for layer in manifest.layers() {
            is_whole &= self.take(layer, present);
        }
        if !is_whole {
            return Ok(());
        }
        let platform = match &found.platform {
            Some(platform) => Some(platform.clone()),
            None => self.read::<Config>(&manifest.config.digest).await?.map(|it| it.platform),
        };
        present.platforms.extend(platform.filter(Platform::is_known).map(|it| it.to_string()));
        Ok(())
    }

    /// Whether the blob is there.
    fn take(&self, blob: &Descriptor, present: &mut Present) -> bool {
        let size = self.sizes.get(&blob.digest);
        present.blobs.extend(size.map(|size| (blob.digest.clone(), *size)));
        size.is_some()
    }

    async fn read<T: for<'b> serde::Deserialize<'b>>(
        &self,
        digest: &str,
    ) -> Result<Option<T>, Failure> {
        let data = self.blobs.small(self.namespace, digest).await?;
        data.map(|data| parse(digest, &data)).transpose()
    }
}
