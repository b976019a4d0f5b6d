//! An archive is made of images: a layout of the OCI image specification, which `docker load` reads as well.

use std::collections::{BTreeMap, HashMap, hash_map};

use gantry_content::Content;
use gantry_domain::Namespace;
use gantry_store::{Digest, Image};
use serde::Serialize;

use crate::{
    Descriptor, ImageError, Index, Manifest, Platform, Platforms, Walk, label, media_type,
    name::{ANNOTATION, LAYOUT_ANNOTATION, Reference, layout_name},
    read_document,
};

mod archive;

pub use archive::ArchiveReader;

/// Things of one archive, which is more than any images have.
const MOST: usize = 100_000;

/// What is exported.
pub struct Export {
    /// Of an index, manifests of these platforms, the best first; the server's own if there are none.
    pub platforms: Platforms,
    /// Whether those of other platforms are exported, too.
    pub all_platforms: bool,
    /// Whether there is no `manifest.json`, by which Docker's clients read the archive.
    pub skip_compatibility_manifest: bool,
    /// Whether layers are left out that must not be given to others.
    pub skip_non_distributable: bool,
}

/// What an archive has, by name.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// What there is by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Directory,
    Document { mode: u32, document: Vec<u8> },
    Blob { digest: Digest, size: u64 },
}

/// `index.json`, as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexDocument<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

/// An entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// What an archive is made of, as far as that is known.
struct Plan<'a> {
    export: &'a Export,
    content: &'a Content,
    namespace: &'a Namespace,
    entries: Entries,
    /// Manifests that Docker's clients find, and names of each, in the order of the images.
    saved: Vec<(Digest, Vec<String>)>,
}

impl Export {
    /// Plans an archive of images; what it has is read when that is asked for. The future may be dropped.
    ///
    /// # Errors
    /// If something is missing, no manifest is for one of the platforms, or an image has more parts than are exported.
    pub async fn archive(
        &self,
        content: Content,
        namespace: Namespace,
        images: Vec<Image>,
    ) -> Result<ArchiveReader, ImageError> {
        let (entries, saved) = (Entries::new(), Vec::new());
        let mut plan =
            Plan { export: self, content: &content, namespace: &namespace, entries, saved };
        let mut manifests = Vec::new();
        let mut resolved = HashMap::new();
        for image in images {
            let target = plan.target(&image).await?;
            let place = match resolved.entry(target.digest.clone()) {
                hash_map::Entry::Occupied(known) => *known.get(),
                hash_map::Entry::Vacant(new) => *new.insert(plan.image(&target).await?),
            };
            plan.saved[place].1.push(image.name);
            manifests.push(target);
        }
        plan.documents(&manifests).await?;
        let entries = plan.entries;
        Ok(ArchiveReader::new(content, namespace, entries))
    }
}

impl Plan<'_> {
    /// An image as `index.json` has it.
    async fn target(&self, image: &Image) -> Result<Descriptor, ImageError> {
        let mut target = Descriptor::of_stored(&image.target)?;
        let blob = self.content.store().blob(self.namespace, &target.digest).await?;
        // Where content came from goes with it.
        let is_source = |key: &str| key.starts_with(label::DISTRIBUTION_SOURCE);
        let sources = blob.labels.into_iter().filter(|(key, _)| is_source(key));
        target.annotations.extend(sources);
        let layout_name = layout_name(&image.name);
        let names = [(ANNOTATION, image.name.clone()), (LAYOUT_ANNOTATION, layout_name)];
        target.annotations.extend(names.map(|(key, name)| (key.to_owned(), name)));
        Ok(target)
    }

    /// Adds an image; gives the place of the manifest that Docker's clients find.
    async fn image(&mut self, target: &Descriptor) -> Result<usize, ImageError> {
        if media_type::is_manifest(&target.media_type) {
            self.tree(target.clone()).await?;
            return Ok(self.save(target.digest.clone()));
        }
        if !media_type::is_index(&target.media_type) {
            let problem = format!("is {:?}: only manifests may be exported", target.media_type);
            return Err(ImageError::Document { digest: target.digest.clone(), problem });
        }
        self.add_blob(target)?;
        let document = read_document(self.content, self.namespace, &target.digest).await?;
        let Index { manifests } = Index::parse(&target.digest, &document)?;
        let platforms = match self.export.platforms.0.is_empty() {
            true => Platforms(vec![Platform::own()]),
            false => self.export.platforms.clone(),
        };
        let mut best: Option<Descriptor> = None;
        for manifest in manifests {
            let is_wanted =
                manifest.platform.as_ref().is_none_or(|platform| platforms.has(platform));
            if !is_wanted && !self.export.all_platforms {
                continue;
            }
            self.tree(manifest.clone()).await?;
            let rank = |one: &Descriptor| platforms.rank(one.platform.as_ref());
            if is_wanted && best.as_ref().is_none_or(|best| rank(&manifest) < rank(best)) {
                best = Some(manifest);
            }
        }
        let best = best.ok_or_else(|| ImageError::NoPlatform(target.digest.clone()))?;
        Ok(self.save(best.digest))
    }

    /// Notes a manifest that Docker's clients find; gives its place.
    fn save(&mut self, digest: Digest) -> usize {
        if let Some(place) = self.saved.iter().position(|(known, _)| *known == digest) {
            return place;
        }
        self.saved.push((digest, Vec::new()));
        self.saved.len() - 1
    }

    /// Adds a document, and all that it refers to.
    async fn tree(&mut self, root: Descriptor) -> Result<(), ImageError> {
        let mut walk = Walk::from(root);
        while let Some(next) = walk.next() {
            self.add_blob(&next)?;
            let is_document =
                media_type::is_manifest(&next.media_type) || media_type::is_index(&next.media_type);
            if is_document {
                let document = read_document(self.content, self.namespace, &next.digest).await?;
                walk.add(crate::children(&next, &document)?)?;
            }
        }
        Ok(())
    }

    fn add_blob(&mut self, blob: &Descriptor) -> Result<(), ImageError> {
        let Descriptor { media_type, digest, size, .. } = blob;
        if self.export.skip_non_distributable && media_type::is_non_distributable(media_type) {
            return Ok(());
        }
        if self.entries.len() >= MOST {
            return Err(ImageError::TooMuch { root: digest.clone(), most: MOST });
        }
        let algorithm = digest.algorithm().name();
        for directory in ["blobs/".to_owned(), format!("blobs/{algorithm}/")] {
            self.entries.insert(directory, Entry::Directory);
        }
        self.entries.insert(path(digest), Entry::Blob { digest: digest.clone(), size: *size });
        Ok(())
    }

    /// Adds the documents that say what the archive is.
    async fn documents(&mut self, manifests: &[Descriptor]) -> Result<(), ImageError> {
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let layout = Entry::Document { mode: 0o444, document: layout };
        self.entries.insert("oci-layout".to_owned(), layout);
        let index = IndexDocument { schema_version: 2, media_type: media_type::INDEX, manifests };
        self.entries.insert("index.json".to_owned(), document(&index)?);
        if self.export.skip_compatibility_manifest || self.saved.is_empty() {
            return Ok(());
        }
        let mut saved = Vec::new();
        for (digest, names) in &self.saved {
            let manifest = read_document(self.content, self.namespace, digest).await?;
            let Manifest { config, layers } = Manifest::parse(digest, &manifest)?;
            let layers: Vec<_> = layers.iter().map(|layer| path(&layer.digest)).collect();
            let names: Result<Vec<_>, _> = names
                .iter()
                .map(|name| Ok::<_, ImageError>(Reference::parse(name)?.familiar()))
                .collect();
            saved.push(Saved {
                config: path(&config.digest),
                repo_tags: Some(names?).filter(|names| !names.is_empty()),
                layers: Some(layers).filter(|layers| !layers.is_empty()),
            });
        }
        self.entries.insert("manifest.json".to_owned(), document(&saved)?);
        Ok(())
    }
}

/// Where a layout has a blob.
fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn document(document: &impl Serialize) -> Result<Entry, ImageError> {
    let document = serde_json::to_vec(document);
    let document = document.map_err(|error| ImageError::Archive(error.to_string()))?;
    Ok(Entry::Document { mode: 0o644, document })
}
