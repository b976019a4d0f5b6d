//! How far each part of an image is, in the words of containerd's progress messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gantry_api::containerd::types::transfer::Progress as Message;
use gantry_images::{Descriptor, media_type};
use gantry_store::Digest;
use tokio::task::consume_budget;

use super::{Progress, progress::message};

/// An annotation with the name of a part.
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// How many documents a part is told to belong to: a stranger's documents may refer to one part any number of times.
const MOST_PARENTS: usize = 16;

/// Tells how far the parts of one image are.
pub(super) struct Tracker<'a> {
    progress: &'a Progress,
    /// What the image is called, to which the first part belongs.
    image: &'a str,
    /// What each part belongs to.
    parents: Mutex<HashMap<Digest, Vec<Arc<str>>>>,
}

impl<'a> Tracker<'a> {
    pub(super) fn new(progress: &'a Progress, image: &'a str) -> Self {
        Self { progress, image, parents: Mutex::default() }
    }

    /// Notes that these belong to a part.
    pub(super) fn note(&self, parent: &Descriptor, children: &[Descriptor]) {
        let parent: Arc<str> = part_key(parent).into();
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        for child in children {
            let of_child = parents.entry(child.digest.clone()).or_default();
            if of_child.len() < MOST_PARENTS && !of_child.contains(&parent) {
                of_child.push(Arc::clone(&parent));
            }
        }
    }

    pub(super) async fn waiting(&self, part: &Descriptor) {
        self.tell("waiting", part, 0).await;
    }

    /// So many bytes of it are there; `event` is downloading or uploading.
    pub(super) async fn moving(&self, event: &str, part: &Descriptor, bytes: u64) {
        self.tell(event, part, bytes).await;
    }

    pub(super) async fn exists(&self, part: &Descriptor) {
        self.tell("already exists", part, part.size).await;
    }

    pub(super) async fn complete(&self, part: &Descriptor) {
        self.tell("complete", part, part.size).await;
    }

    pub(super) async fn extracting(&self, part: &Descriptor) {
        self.tell("extracting", part, 0).await;
    }

    pub(super) async fn extracted(&self, part: &Descriptor) {
        self.tell("extracted", part, part.size).await;
    }

    fn parents_of(&self, part: &Descriptor) -> Vec<String> {
        let parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        match parents.get(&part.digest) {
            Some(parents) => parents.iter().map(|parent| parent.to_string()).collect(),
            None => vec![self.image.to_owned()],
        }
    }

    async fn tell(&self, event: &str, part: &Descriptor, bytes: u64) {
        // Who tells of thousands of parts in a row lets others run meanwhile.
        consume_budget().await;
        if !self.progress.is_told() {
            return;
        }
        let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let told = Message {
            event: event.to_owned(),
            name: part_key(part),
            parents: self.parents_of(part),
            progress: number(bytes),
            total: number(part.size),
            desc: Some(message(part)),
        };
        self.progress.tell(told).await;
    }
}

/// What a part is called, also while it is written.
pub(super) fn part_key(part: &Descriptor) -> String {
    let kind = &*part.media_type;
    let prefix = if media_type::is_manifest(kind) {
        "manifest"
    } else if media_type::is_index(kind) {
        "index"
    } else if media_type::is_layer(kind) {
        "layer"
    } else if media_type::is_config(kind) {
        "config"
    } else if kind.starts_with("application/vnd.in-toto") {
        "attestation"
    } else {
        "unknown"
    };
    match part.annotations.get(REFERENCE_NAME) {
        Some(name) => format!("{prefix}-{name}@{}", part.digest),
        None => format!("{prefix}-{}", part.digest),
    }
}

#[cfg(test)]
mod tests {
    use gantry_store::Algorithm;

    use super::*;

    #[test]
    fn what_belongs_to_many_documents_is_told_of_a_few() {
        let part = |byte| {
            Descriptor::new(media_type::MANIFEST, Digest::new(Algorithm::Sha256, &[byte; 32]), 1)
        };
        let progress = Progress::default();
        let tracker = Tracker::new(&progress, "image");
        let child = part(0);
        assert_eq!(tracker.parents_of(&child), ["image"]);
        tracker.note(&part(1), &vec![child.clone(); 44_000]);
        assert_eq!(tracker.parents_of(&child), [part_key(&part(1))]);
        for other in 2..40 {
            tracker.note(&part(other), std::slice::from_ref(&child));
        }
        let first: Vec<_> = (1..=16).map(|number| part_key(&part(number))).collect();
        assert_eq!(tracker.parents_of(&child), first);
    }

    #[test]
    fn parts_are_called_by_kind_and_digest() {
        let digest = Digest::new(Algorithm::Sha256, &[1; 32]);
        for (kind, prefix) in [
            (media_type::INDEX, "index"),
            (media_type::DOCKER_MANIFEST, "manifest"),
            (media_type::CONFIG, "config"),
            (media_type::DOCKER_LAYER_GZIP, "layer"),
            ("application/vnd.in-toto+json", "attestation"),
            ("x", "unknown"),
        ] {
            let mut part = Descriptor::new(kind, digest.clone(), 1);
            assert_eq!(part_key(&part), format!("{prefix}-{digest}"));
            part.annotations.insert(REFERENCE_NAME.to_owned(), "a".to_owned());
            assert_eq!(part_key(&part), format!("{prefix}-a@{digest}"));
        }
    }
}
