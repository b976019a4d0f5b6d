//! The JSON documents that images consist of. They come from strangers: what is longer than [`MAX_DOCUMENT`] is not
//! read, and a descriptor without a valid digest makes the whole document invalid.

use std::collections::BTreeMap;

use gantry_store::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{ImageError, Platform, media_type};

/// The longest document in bytes, which is what registries take.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// How many things one document may refer to: no image has so many layers, and no list so many images.
pub const MAX_PARTS: usize = 10_000;

/// What a document refers to. The order of the fields is Go's, which writes them so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// May be empty.
    #[serde(default)]
    pub media_type: String,
    /// Which content it is.
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where it is outside of a registry: of layers that must not be given to others, as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub urls: Vec<String>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Of manifests, as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// With nothing else said.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (media_type, annotations) = (media_type.to_owned(), BTreeMap::new());
        Self { media_type, digest, size, urls: Vec::new(), annotations, platform: None }
    }

    /// Of an image that is stored.
    ///
    /// # Errors
    /// If its digest is none.
    pub fn of_stored(target: &gantry_store::Descriptor) -> Result<Self, ImageError> {
        let digest = Digest::parse(&target.digest)
            .map_err(|problem| ImageError::Digest { text: target.digest.clone(), problem })?;
        Ok(Self {
            media_type: target.media_type.clone(),
            digest,
            size: target.size,
            urls: Vec::new(),
            annotations: target.annotations.clone(),
            platform: None,
        })
    }

    /// What is stored of it with an image.
    #[must_use]
    pub fn to_stored(&self) -> gantry_store::Descriptor {
        gantry_store::Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: self.size,
            annotations: self.annotations.clone(),
        }
    }
}

/// A manifest: one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the specification says it")]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

/// A list of manifests, or of further lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the specification says it")]
pub struct Index {
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

/// What unpacking needs of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification says it")]
pub struct Config {
    pub platform: Platform,
    pub rootfs: RootFs,
}

/// The layers of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the specification says it")]
pub struct RootFs {
    /// `layers`, or nothing, of all images that can be unpacked.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Digests of the layers without compression.
    #[serde(default, deserialize_with = "read_digests")]
    pub diff_ids: Vec<Digest>,
}

/// What tells a manifest from an index, whatever the descriptor says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// # Errors
    /// If it is no manifest, or has more than [`MAX_PARTS`] layers.
    pub fn parse(digest: &Digest, document: &[u8]) -> Result<Self, ImageError> {
        let shape: Shape = parse(digest, document)?;
        if shape.manifests.is_some() || media_type::is_index(&shape.media_type) {
            return Err(malformed(digest, "is an index where a manifest is expected"));
        }
        let manifest: Self = parse(digest, document)?;
        check_count(digest, manifest.layers.len(), "layers")?;
        Ok(manifest)
    }
}

impl Index {
    /// # Errors
    /// If it is no index, or lists more than [`MAX_PARTS`] things.
    pub fn parse(digest: &Digest, document: &[u8]) -> Result<Self, ImageError> {
        let shape: Shape = parse(digest, document)?;
        let has_parts = shape.config.is_some() || shape.layers.is_some();
        if has_parts || media_type::is_manifest(&shape.media_type) {
            return Err(malformed(digest, "is a manifest where an index is expected"));
        }
        if shape.fs_layers.is_some() {
            return Err(malformed(digest, "is a manifest of version 1, which is not supported"));
        }
        let index: Self = parse(digest, document)?;
        check_count(digest, index.manifests.len(), "manifests")?;
        Ok(index)
    }
}

impl Config {
    /// # Errors
    /// If it is no configuration.
    pub fn parse(digest: &Digest, document: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Layers {
            #[serde(default, deserialize_with = "or_default")]
            rootfs: RootFs,
        }
        let Layers { rootfs } = parse(digest, document)?;
        Ok(Self { platform: parse(digest, document)?, rootfs })
    }
}

/// What a document of this descriptor refers to; nothing, without looking at it, if it is neither a manifest nor an index.
///
/// # Errors
/// If it is not what its media type says.
pub fn children(of: &Descriptor, document: &[u8]) -> Result<Vec<Descriptor>, ImageError> {
    if media_type::is_manifest(&of.media_type) {
        let Manifest { config, layers } = Manifest::parse(&of.digest, document)?;
        return Ok([vec![config], layers].concat());
    }
    if media_type::is_index(&of.media_type) {
        return Ok(Index::parse(&of.digest, document)?.manifests);
    }
    Ok(Vec::new())
}

fn parse<'a, T: Deserialize<'a>>(digest: &Digest, document: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(document).map_err(|error| malformed(digest, error.to_string()))
}

fn check_count(digest: &Digest, count: usize, what: &str) -> Result<(), ImageError> {
    if count > MAX_PARTS {
        let problem = format!("has {count} {what}, at most {MAX_PARTS} are read");
        return Err(malformed(digest, problem));
    }
    Ok(())
}

fn malformed(digest: &Digest, problem: impl Into<String>) -> ImageError {
    ImageError::Document { digest: digest.clone(), problem: problem.into() }
}

fn write_digest<S: Serializer>(digest: &Digest, into: S) -> Result<S::Ok, S::Error> {
    into.serialize_str(digest.as_str())
}

fn read_digest<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(from)?;
    Digest::parse(&text).map_err(|problem| D::Error::custom(format!("digest {text:?}: {problem}")))
}

fn read_digests<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Digest>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "read_digest")] Digest);
    let found: Vec<One> = or_default(from)?;
    Ok(found.into_iter().map(|One(digest)| digest).collect())
}

/// Go writes `null` for an empty list or map.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use gantry_store::Algorithm;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::new(Algorithm::Sha256, &[byte; 32])
    }

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor::new(media_type, digest(1), 2)
    }

    #[test]
    fn a_descriptor_is_written_as_go_writes_it() {
        let mut written = descriptor(media_type::MANIFEST);
        written.urls.push("https://h.example/x".to_owned());
        written.annotations.insert("a".to_owned(), "b".to_owned());
        written.platform = Some(Platform::own());
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), written);
        let begin =
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:0101"#;
        assert!(text.starts_with(begin), "{text}");
        let rest =
            r#""size":2,"urls":["https://h.example/x"],"annotations":{"a":"b"},"platform":{"#;
        assert!(text.contains(rest), "{text}");
    }

    #[test]
    fn null_is_nothing() {
        let digest = digest(1);
        let text = format!(
            r#"{{"mediaType":"m","digest":"{digest}","size":1,"urls":null,"annotations":null,"platform":null}}"#
        );
        let config: Descriptor = serde_json::from_str(&text).unwrap();
        let manifest = format!(r#"{{"schemaVersion":2,"config":{text},"layers":null}}"#);
        let manifest = Manifest::parse(&digest, manifest.as_bytes()).unwrap();
        assert_eq!(manifest, Manifest { config, layers: vec![] });
        assert!(Index::parse(&digest, br#"{"manifests":null}"#).unwrap().manifests.is_empty());
        let config =
            Config::parse(&digest, br#"{"os":"linux","rootfs":{"diff_ids":null}}"#).unwrap();
        assert_eq!((&*config.platform.os, config.rootfs.diff_ids.len()), ("linux", 0));
    }

    #[test]
    fn what_one_document_refers_to_is_bounded() {
        let part = serde_json::to_string(&descriptor("m")).unwrap();
        for (kind, begin, what) in [
            (media_type::MANIFEST, format!(r#""config":{part},"#), "layers"),
            (media_type::INDEX, String::new(), "manifests"),
        ] {
            let parts = |count| {
                let list = vec![&*part; count].join(",");
                let document = format!(r#"{{{begin}"{what}":[{list}]}}"#);
                children(&descriptor(kind), document.as_bytes())
            };
            assert!(parts(MAX_PARTS).unwrap().len() >= MAX_PARTS);
            let error = parts(MAX_PARTS + 1).unwrap_err().to_string();
            let problem = format!("has 10001 {what}, at most 10000 are read: invalid argument");
            assert!(error.ends_with(&problem), "{error}");
        }
    }

    #[test]
    fn one_kind_is_not_taken_for_another() {
        let digest = digest(1);
        let own = serde_json::to_string(&descriptor("m")).unwrap();
        let manifest = format!(r#"{{"config":{own},"layers":[{own}]}}"#);
        let index = format!(r#"{{"manifests":[{own},{own}]}}"#);
        assert!(Index::parse(&digest, manifest.as_bytes()).is_err());
        assert!(Manifest::parse(&digest, index.as_bytes()).is_err());
        let of =
            |media_type, document: &str| children(&descriptor(media_type), document.as_bytes());
        assert_eq!(of(media_type::DOCKER_MANIFEST, &manifest).unwrap().len(), 2);
        assert_eq!(of(media_type::INDEX, &index).unwrap().len(), 2);
        assert!(of(media_type::CONFIG, "no JSON").unwrap().is_empty());
        for bad in ["", "[]", "{}", r#"{"config":{"digest":"sha256:1","size":1}}"#] {
            assert!(of(media_type::MANIFEST, bad).is_err(), "{bad}");
        }
        let negative = own.replace(r#""size":2"#, r#""size":-2"#);
        assert!(of(media_type::INDEX, &format!(r#"{{"manifests":[{negative}]}}"#)).is_err());
    }
}
