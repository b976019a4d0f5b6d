//! What of an image is transferred, and by which labels that is kept.

use std::collections::BTreeMap;

use gantry_store::Labels;

use crate::{Descriptor, ImageError, Platforms, media_type};

/// What of an image is wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Manifests of these platforms.
    pub platforms: Platforms,
    /// Whether manifests of other platforms are wanted with their configurations, without their layers.
    pub all_metadata: bool,
    /// How many entries of an index are wanted, the best platforms first; 0 for all.
    pub limit: usize,
}

impl Filter {
    /// Those of what `parent` refers to that are wanted.
    ///
    /// # Errors
    /// [`ImageError::NoPlatform`] if some entries of an index are wanted, and it has none.
    pub fn wanted(
        &self,
        parent: &Descriptor,
        mut children: Vec<Descriptor>,
    ) -> Result<Vec<Descriptor>, ImageError> {
        let is_wanted =
            |one: &Descriptor| one.platform.as_ref().is_none_or(|one| self.platforms.has(one));
        if !self.all_metadata {
            children.retain(is_wanted);
        } else if media_type::is_manifest(&parent.media_type) && !is_wanted(parent) {
            children.retain(|child| media_type::is_config(&child.media_type));
        }
        if self.limit > 0 && media_type::is_index(&parent.media_type) {
            if children.is_empty() {
                return Err(ImageError::NoPlatform(parent.digest.clone()));
            }
            children.sort_by_key(|child| self.platforms.rank(child.platform.as_ref()));
            children.truncate(self.limit);
        }
        Ok(children)
    }
}

/// The labels by which a document's blob refers to its children, that they are not collected before it: containerd's.
#[must_use]
pub fn reference_labels(children: &[Descriptor]) -> Labels {
    let (mut labels, mut counts) = (Labels::new(), BTreeMap::new());
    for child in children {
        let label = media_type::reference_label(&child.media_type);
        let count: &mut usize = counts.entry(label).or_default();
        let number = *count;
        *count += 1;
        let key = if number > 0 || label.ends_with('.') {
            format!("{label}{number}")
        } else {
            label.to_owned()
        };
        labels.insert(key, child.digest.to_string());
    }
    labels
}

#[cfg(test)]
mod tests {
    use gantry_store::{Algorithm, Digest};

    use super::*;
    use crate::Platform;

    fn child(byte: u8, media_type: &str, architecture: &str) -> Descriptor {
        let (os, architecture) = ("linux".to_owned(), architecture.to_owned());
        let platform = Platform { os, architecture, ..Platform::default() };
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::new(Algorithm::Sha256, &[byte; 32]),
            size: 1,
            urls: Vec::new(),
            annotations: Labels::new(),
            platform: Some(platform).filter(|platform| !platform.architecture.is_empty()),
        }
    }

    fn wanted(filter: &Filter, parent: &Descriptor, children: &[Descriptor]) -> Vec<u8> {
        let wanted = filter.wanted(parent, children.to_vec()).unwrap();
        let byte = |child: Descriptor| u8::from_str_radix(&child.digest.hex()[..2], 16).unwrap();
        wanted.into_iter().map(byte).collect()
    }

    #[test]
    fn only_what_is_wanted_is_left() {
        let index = child(0, media_type::INDEX, "");
        let children = ["amd64", "arm64", "", "s390x"].into_iter().zip(1..);
        let children: Vec<_> =
            children.map(|(name, byte)| child(byte, media_type::MANIFEST, name)).collect();
        let of = |names: &[&str]| {
            let platforms = names.iter().filter_map(|name| child(0, "", name).platform);
            Filter { platforms: Platforms(platforms.collect()), ..Filter::default() }
        };
        assert_eq!(wanted(&of(&[]), &index, &children), [1, 2, 3, 4]);
        assert_eq!(wanted(&of(&["s390x", "amd64"]), &index, &children), [1, 3, 4]);
        let best = Filter { limit: 2, ..of(&["s390x", "amd64"]) };
        assert_eq!(wanted(&best, &index, &children), [4, 1]);
        assert!(best.wanted(&index, children[1..2].to_vec()).is_err());
        let parts = [child(5, media_type::CONFIG, ""), child(6, media_type::DOCKER_LAYER, "")];
        let all = Filter { all_metadata: true, ..of(&["amd64"]) };
        assert_eq!(wanted(&all, &index, &children), [1, 2, 3, 4]);
        assert_eq!(wanted(&all, &children[0], &parts), [5, 6]);
        assert_eq!(wanted(&all, &children[1], &parts), [5]);
    }

    #[test]
    fn labels_are_containerds() {
        let kinds = [media_type::CONFIG, media_type::DOCKER_LAYER, "x", media_type::DOCKER_LAYER];
        let children = kinds.into_iter().zip(1..).map(|(kind, byte)| child(byte, kind, ""));
        let labels = reference_labels(&children.collect::<Vec<_>>());
        let keys: Vec<_> =
            labels.keys().map(|key| &key["containerd.io/gc.ref.content.".len()..]).collect();
        assert_eq!(keys, ["0", "config", "l.0", "l.1"]);
        let twice = [child(1, media_type::CONFIG, ""), child(2, media_type::CONFIG, "")];
        let last = "containerd.io/gc.ref.content.config1";
        assert_eq!(reference_labels(&twice)[last], twice[1].digest.to_string());
    }
}
