//! Machines that images are built for, and which of them are wanted.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::document::or_default;

/// As in image-index.md of the OCI image specification. The order of the fields is Go's, which writes them so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the specification says it")]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The machine's own.
    #[must_use]
    pub fn own() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        let (os, architecture) = ("linux".to_owned(), architecture.to_owned());
        Self { os, architecture, variant: variant.to_owned(), ..Self::default() }.normalized()
    }

    /// The same by the names that Go has for it. What is not said is this server's.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match &*self.os.to_lowercase() {
            "" => "linux".to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) =
            (self.architecture.to_lowercase(), self.variant.to_lowercase());
        let (architecture, variant) = match (&*architecture, &*variant) {
            ("i386", _) => ("386", String::new()),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", String::new()),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", String::new()),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9".to_owned()),
            ("aarch64" | "arm64", _) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7".to_owned()),
            ("armel", _) => ("arm", "v6".to_owned()),
            ("arm", "" | "7") => ("arm", "v7".to_owned()),
            ("arm", "5" | "6" | "8") => ("arm", format!("v{variant}")),
            _ => (&*architecture, variant),
        };
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        let (architecture, os_version) = (architecture.to_owned(), self.os_version.clone());
        Self { architecture, os, os_version, os_features, variant }
    }

    /// Whether an image for `other` is one for this. Versions of Windows are not compared.
    fn is_met_by(&self, other: &Self) -> bool {
        let (this, other) = (self.normalized(), other.normalized());
        this.os == other.os
            && this.architecture == other.architecture
            && this.variant == other.variant
            && other.os_features.iter().all(|feature| this.os_features.contains(feature))
    }

    /// Whether an image for `other` has the files of this system, for whatever processor.
    #[must_use]
    pub fn is_system_of(&self, other: &Self) -> bool {
        let (this, other) = (self.normalized(), other.normalized());
        this.os == other.os
            && other.os_features.iter().all(|feature| this.os_features.contains(feature))
    }
}

/// Which platforms are wanted, the best first; all if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platforms(pub Vec<Platform>);

impl Platforms {
    /// Whether one of them is wanted.
    #[must_use]
    pub fn has(&self, platform: &Platform) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted.is_met_by(platform))
    }

    /// By this they are sorted, those without a platform behind all others.
    pub(crate) fn rank(&self, platform: Option<&Platform>) -> (usize, Reverse<usize>) {
        let Some(platform) = platform else { return (usize::MAX, Reverse(0)) };
        let place = self.0.iter().position(|wanted| wanted.is_met_by(platform));
        let features = if place.is_some() { platform.os_features.len() } else { 0 };
        (place.unwrap_or(self.0.len()), Reverse(features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next(), ..Platform::default() }
    }

    #[test]
    fn one_platform_has_many_names() {
        for (name, other) in [
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert!(platform(name).is_met_by(&platform(other)), "{name}");
        }
        for (name, other) in [
            ("linux/amd64", "linux/arm64"),
            ("linux/amd64", "windows/amd64"),
            ("linux/amd64", "linux/amd64/v3"),
            ("linux/arm/v7", "linux/arm/v6"),
        ] {
            assert!(!platform(name).is_met_by(&platform(other)), "{name}");
        }
        assert!(platform("linux/amd64").is_system_of(&platform("linux/s390x")));
    }

    #[test]
    fn features_have_to_be_wanted() {
        let with = |features: &[&str]| {
            let os_features = features.iter().map(|feature| (*feature).to_owned()).collect();
            Platform { os_features, ..platform("linux/amd64") }
        };
        assert!(with(&["a", "b"]).is_met_by(&with(&["b"])));
        assert!(!with(&["a"]).is_met_by(&with(&["b"])));
        assert!(!with(&[]).is_system_of(&with(&["b"])));
    }

    #[test]
    fn what_is_wanted_most_comes_first() {
        let wanted = Platforms(vec![platform("linux/arm64"), platform("linux/amd64")]);
        let mut found = [Some("linux/amd64"), None, Some("linux/386"), Some("linux/arm64")];
        found.sort_by_key(|found| wanted.rank(found.map(platform).as_ref()));
        assert_eq!(found, [Some("linux/arm64"), Some("linux/amd64"), Some("linux/386"), None]);
        assert!(!wanted.has(&platform("linux/386")));
        assert!(Platforms::default().has(&platform("plan9/386")));
    }
}
