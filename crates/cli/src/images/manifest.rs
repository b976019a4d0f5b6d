//! The JSON that images consist of: indexes, manifests and configurations of the OCI image specification and of Docker.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::failure::Failure;

/// What a descriptor's media type says about its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Manifest,
    /// Anything else.
    Other,
}

impl Kind {
    pub(crate) fn of(media_type: &str) -> Kind {
        match media_type {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Kind::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Kind::Manifest,
            _ => Kind::Other,
        }
    }
}

/// A reference to a blob.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: i64,
    pub(crate) platform: Option<Platform>,
}

/// An image of several platforms.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Index {
    // Go writes null for an empty list.
    manifests: Option<Vec<Descriptor>>,
}

impl Index {
    pub(crate) fn manifests(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }
}

/// An image of one platform.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    pub(crate) fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }
}

/// What a program needs to be run from an image.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub(crate) platform: Platform,
    #[serde(default)]
    pub(crate) config: Settings,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// How the program is run, unless somebody says otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Settings {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) stop_signal: Option<String>,
}

/// The digests of the layers without compression, the lowest first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    diff_ids: Option<Vec<String>>,
}

impl RootFs {
    pub(crate) fn diff_ids(&self) -> &[String] {
        self.diff_ids.as_deref().unwrap_or_default()
    }
}

/// What programs are made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// That of this machine, in Go's names.
    pub(crate) fn here() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Whether what is made for `self` runs where `wanted` is. A variant counts only if both have one.
    pub(crate) fn fits(&self, wanted: &Platform) -> bool {
        let variants = (self.variant.as_deref(), wanted.variant.as_deref());
        let same_variant = match variants {
            (Some(own), Some(wanted)) if !own.is_empty() => own == wanted,
            _ => true,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && same_variant
    }

    /// Whether it is one: attestations have `unknown/unknown`.
    pub(crate) fn is_known(&self) -> bool {
        !self.os.is_empty() && self.os != "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Platform, String> {
        let parts: Vec<_> = text.split('/').collect();
        let part = |index: usize| parts.get(index).map(|part| (*part).to_owned());
        match (part(0), part(1), parts.len()) {
            (Some(os), Some(architecture), 2 | 3) if parts.iter().all(|part| !part.is_empty()) => {
                Ok(Platform { os, architecture, variant: part(2) })
            }
            _ => Err(format!("{text:?} is no platform such as linux/amd64 or linux/arm/v7")),
        }
    }
}

/// The JSON of a blob.
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(digest: &str, data: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(data).map_err(|error| Failure::new(format!("read {digest}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_leaves_empty_is_understood() {
        let index: Index = serde_json::from_str(r#"{"manifests": null}"#).unwrap();
        assert!(index.manifests().is_empty());
        let config: Config = serde_json::from_str(
            r#"{"os": "linux", "architecture": "arm", "variant": "v7",
                "config": {"Env": null, "Cmd": ["sh"], "WorkingDir": ""},
                "rootfs": {"type": "layers", "diff_ids": ["sha256:0a"]}}"#,
        )
        .unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v7");
        assert_eq!(config.rootfs.diff_ids(), ["sha256:0a"]);
        assert_eq!(config.config.cmd.unwrap(), ["sh"]);
        let bare: Config = serde_json::from_str("{}").unwrap();
        assert!(!bare.platform.is_known());
    }

    #[test]
    fn platforms_are_compared_as_far_as_they_are_known() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm64/v8").fits(&platform("linux/arm64")));
        assert!(platform("linux/arm64").fits(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm/v6").fits(&platform("linux/arm/v7")));
        assert!(!platform("linux/amd64").fits(&platform("linux/386")));
        for wrong in ["linux", "linux/", "/a", "a/b/c/d", ""] {
            wrong.parse::<Platform>().unwrap_err();
        }
    }
}
