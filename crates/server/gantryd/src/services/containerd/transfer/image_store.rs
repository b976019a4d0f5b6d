//! The image store as a source or destination: which image, which parts of it, and by which names it is stored.

use std::time::SystemTime;

use gantry_api::containerd::{
    images::{ImageCreate, ImageUpdate},
    to_any, topic,
    types::{
        Platform as PlatformMessage,
        transfer::{ImageReference, ImageStore as Message, UnpackConfiguration},
    },
};
use gantry_failpoints::{Point, reach};
use gantry_images::{
    Descriptor, Filter, Platform, Platforms,
    name::{ANNOTATION, LAYOUT_ANNOTATION, with_prefix},
};
use gantry_store::{Image, LABEL_EXPIRE, Labels, StoreError};
use tonic::Status;

use super::{Call, call::rfc3339};
use crate::services::containerd::status::{invalid, of_images, of_store};

/// A label of an image that names another one: an image that has expired is kept as long as the one that it names is there.
const LABEL_BACK_REFERENCE: &str = "containerd.io/gc.bref.image";

/// References, platforms or unpacks of one request: each is looked at for each image.
const MOST_ITEMS: usize = 256;

/// The image store, as a request has it.
pub(super) struct ImageStore {
    name: String,
    labels: Labels,
    /// What of the image is transferred.
    pub(super) filter: Filter,
    references: Vec<ImageReference>,
    /// What it is unpacked for.
    pub(super) unpacks: Vec<UnpackConfiguration>,
}

impl ImageStore {
    /// Of a message in this field of a request.
    pub(super) fn parse(field: &'static str, message: Message) -> Result<Self, Status> {
        let Message {
            name,
            labels,
            platforms,
            all_metadata,
            manifest_limit,
            extra_references,
            unpacks,
        } = message;
        for (list, count) in [
            ("platforms", platforms.len()),
            ("extra_references", extra_references.len()),
            ("unpacks", unpacks.len()),
        ] {
            if count > MOST_ITEMS {
                let problem =
                    format!("{field}.{list}: are {count}, at most {MOST_ITEMS} are allowed");
                return Err(invalid(field, problem));
            }
        }
        let platforms = Platforms(platforms.into_iter().map(platform).collect());
        let limit = usize::try_from(manifest_limit).unwrap_or(usize::MAX);
        let filter = Filter { platforms, all_metadata, limit };
        Ok(Self { name, labels, filter, references: extra_references, unpacks })
    }

    /// The image that is named.
    pub(super) async fn get(&self, call: &Call) -> Result<Image, Status> {
        call.store().image(&call.namespace, &self.name).await.map_err(of_store)
    }

    /// The image that is named, which the transfer's lease keeps, whatever happens to the name.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such image, or its content is gone.
    pub(super) async fn get_kept(&self, call: &Call) -> Result<Image, Status> {
        kept(call, &self.name).await
    }

    /// All images that are named, likewise.
    pub(super) async fn all_kept(&self, call: &Call) -> Result<Vec<Image>, Status> {
        let mut images = Vec::new();
        if !self.name.is_empty() {
            images.push(self.get_kept(call).await?);
        }
        for reference in &self.references {
            if reference.is_prefix {
                let message = "prefix lookup on export not implemented: not implemented";
                return Err(Status::unimplemented(message));
            }
            images.push(kept(call, &reference.name).await?);
        }
        Ok(images)
    }

    /// Stores an image by all names that the request has for it.
    ///
    /// # Errors
    /// NOT_FOUND if it has none.
    pub(super) async fn store(
        &self,
        call: &Call,
        target: &Descriptor,
    ) -> Result<Vec<Image>, Status> {
        match self.store_if_named(call, target).await? {
            stored if stored.is_empty() => Err(Status::not_found("no image name found: not found")),
            stored => Ok(stored),
        }
    }

    /// The same of an image that need not have a name.
    pub(super) async fn store_if_named(
        &self,
        call: &Call,
        target: &Descriptor,
    ) -> Result<Vec<Image>, Status> {
        let mut images = Vec::new();
        if !self.name.is_empty() {
            images.push(self.image(&self.name, self.labels.clone(), target));
        }
        for reference in &self.references {
            let ImageReference { name, is_prefix, add_digest, .. } = reference;
            if *is_prefix && !add_digest {
                // It is the beginning of a name.
                continue;
            }
            let digest = add_digest.then(|| format!("@{}", target.digest)).unwrap_or_default();
            images.push(self.image(&format!("{name}{digest}"), self.further_labels(), target));
        }
        put_all(call, images).await
    }

    /// Stores an image of an archive by the names that the archive and the request together have for it, if there are any.
    pub(super) async fn store_archived(
        &self,
        call: &Call,
        target: &Descriptor,
    ) -> Result<Vec<Image>, Status> {
        let mut images = Vec::new();
        for reference in self.references.iter().filter(|reference| reference.is_prefix) {
            let named = archived_name(target, reference);
            let digest = format!("{}@{}", reference.name, target.digest);
            let has_digest =
                reference.add_digest && !(named.is_some() && reference.skip_named_digest);
            let names = named.into_iter().chain(has_digest.then_some(digest));
            images.extend(names.map(|name| self.image(&name, self.further_labels(), target)));
        }
        put_all(call, images).await
    }

    fn image(&self, name: &str, labels: Labels, target: &Descriptor) -> Image {
        let (name, target) = (name.to_owned(), target.to_stored());
        Image { name, labels, target, ..Image::default() }
    }

    /// Labels of images beside the one of the request's name, which go with that one.
    fn further_labels(&self) -> Labels {
        let mut labels = self.labels.clone();
        if !self.name.is_empty() {
            labels.insert(LABEL_BACK_REFERENCE.to_owned(), self.name.clone());
            labels.insert(LABEL_EXPIRE.to_owned(), rfc3339(SystemTime::now()));
        }
        labels
    }
}

/// An image whose content the transfer's lease keeps.
async fn kept(call: &Call, name: &str) -> Result<Image, Status> {
    let image = call.store().image(&call.namespace, name).await.map_err(of_store)?;
    let root = Descriptor::of_stored(&image.target).map_err(of_images)?.digest;
    if !call.keep(&root).await? {
        return Err(Status::not_found(format!("content digest {root}: not found")));
    }
    Ok(image)
}

/// What an archive's image is called by its annotations, if the reference takes that.
fn archived_name(target: &Descriptor, reference: &ImageReference) -> Option<String> {
    let annotation = |key| target.annotations.get(key).filter(|name| !name.is_empty());
    let prefixed = |name: &String| with_prefix(name, &reference.name, reference.allow_overwrite);
    match annotation(ANNOTATION) {
        // A whole name, which is taken as it is or not at all.
        Some(name) => prefixed(name).filter(|prefixed| prefixed == name),
        None => prefixed(annotation(LAYOUT_ANNOTATION)?),
    }
}

/// Creates images, or changes those that are there.
async fn put_all(call: &Call, images: Vec<Image>) -> Result<Vec<Image>, Status> {
    let mut stored = Vec::new();
    for image in images {
        stored.push(put(call, image).await?);
        reach(Point::ServerImageNamed);
    }
    Ok(stored)
}

async fn put(call: &Call, image: Image) -> Result<Image, Status> {
    let (store, namespace, surface) = (call.store(), &call.namespace, &call.surface);
    let lease = || Some(call.lease.clone());
    loop {
        match store.create_image(namespace, image.clone(), lease(), None).await {
            Ok(created) => {
                let (name, labels) = (created.name.clone(), created.labels.clone());
                let event = to_any(&ImageCreate { name, labels });
                surface.publish(namespace, topic::IMAGE_CREATE, event).await;
                return Ok(created);
            }
            Err(StoreError::AlreadyExists(_)) => {}
            Err(error) => return Err(of_store(error)),
        }
        match store.update_image(namespace, image.clone(), Vec::new(), lease(), None).await {
            Ok(updated) => {
                let (name, labels) = (updated.name.clone(), updated.labels.clone());
                let event = to_any(&ImageUpdate { name, labels });
                surface.publish(namespace, topic::IMAGE_UPDATE, event).await;
                return Ok(updated);
            }
            // It was deleted meanwhile. A lease that is gone is an error of the next attempt.
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(of_store(error)),
        }
    }
}

/// A platform of a request.
pub(super) fn platform(message: PlatformMessage) -> Platform {
    let PlatformMessage { os, architecture, variant, os_version, os_features } = message;
    Platform { os, architecture, variant, os_version, os_features }
}

#[cfg(test)]
mod tests {
    use gantry_store::{Algorithm, Digest};

    use super::*;

    fn archived(annotations: &[(&str, &str)], reference: &ImageReference) -> Option<String> {
        let annotations =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let target = Descriptor {
            media_type: "m".to_owned(),
            digest: Digest::new(Algorithm::Sha256, &[1; 32]),
            size: 1,
            urls: Vec::new(),
            annotations: annotations.collect(),
            platform: None,
        };
        archived_name(&target, reference)
    }

    #[test]
    fn an_archives_names_are_taken_if_they_begin_well() {
        let strict = ImageReference {
            name: "docker.io/library/a".to_owned(),
            is_prefix: true,
            ..ImageReference::default()
        };
        let lax = ImageReference { allow_overwrite: true, ..strict.clone() };
        let named = |name| [(ANNOTATION, name), (LAYOUT_ANNOTATION, "tag")];
        let own = "docker.io/library/a:b";
        assert_eq!(archived(&named(own), &strict).as_deref(), Some(own));
        assert_eq!(archived(&named("x/y:z"), &strict), None);
        assert_eq!(archived(&named("x/y:z"), &lax).as_deref(), Some("x/y:z"));
        // It is no whole name.
        assert_eq!(archived(&named("z"), &lax), None);
        let tag = [(LAYOUT_ANNOTATION, "b")];
        assert_eq!(archived(&tag, &strict).as_deref(), Some(own));
        assert_eq!(archived(&[], &lax), None);
    }
}
