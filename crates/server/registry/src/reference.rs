//! Names of images in registries.

use std::fmt;

use gantry_store::Digest;

use crate::RegistryError;

/// The longest reference.
const MAX_LENGTH: usize = 4096;

/// Where an image is: `host/repository`, then `:tag`, `@digest`, or both. containerd's clients give the host always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// # Errors
    /// [`RegistryError::Reference`].
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |problem: &str| RegistryError::Reference {
            reference: crate::error::shortened(text),
            problem: problem.to_owned(),
        };
        if text.len() > MAX_LENGTH {
            return Err(wrong(&format!(
                "is {} bytes long, at most {MAX_LENGTH} are allowed",
                text.len()
            )));
        }
        let Some((host, path)) = text.split_once('/') else {
            return Err(wrong("has no host and repository, as in host/repository:tag"));
        };
        if !is_host(host) {
            return Err(wrong("does not begin with the name of a host"));
        }
        let end = path.find([':', '@']).unwrap_or(path.len());
        let (repository, object) = path.split_at(end);
        if !is_repository(repository) {
            return Err(wrong(
                "names no repository: allowed are A-Z a-z 0-9 . _ - between slashes",
            ));
        }
        let (tag, digest) = match object.split_once('@') {
            Some((tag, digest)) => {
                let digest = Digest::parse(digest)
                    .map_err(|problem| wrong(&format!("has a wrong digest: {problem}")))?;
                (tag, Some(digest))
            }
            None => (object, None),
        };
        let tag = match tag.strip_prefix(':') {
            Some(tag) if is_tag(tag) => Some(tag.to_owned()),
            Some(_) => return Err(wrong("has a wrong tag: allowed are 128 of A-Z a-z 0-9 . _ -")),
            None => None,
        };
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), tag, digest })
    }

    /// The registry, with its port if that is given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The registry without its port, and without the brackets of an address.
    #[must_use]
    pub fn host_name(&self) -> &str {
        split_port(&self.host).0.trim_start_matches('[').trim_end_matches(']')
    }

    /// Where it is in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Its name there.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Which image it has to be.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Splits `host:port`, also where the host is an IPv6 address in brackets.
pub(crate) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Whether an authority names a host, and nothing else: it becomes a part of addresses and of paths.
fn is_host(host: &str) -> bool {
    let (name, port) = split_port(host);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_name))
        }
    };
    is_name && port.is_none_or(is_port)
}

fn is_repository(repository: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = |part: &str| part.bytes().all(is_of_name) && !matches!(part, "" | "." | "..");
    repository.split('/').all(is_name)
}

fn is_tag(tag: &str) -> bool {
    let is_of_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(is_of_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_host_a_repository_and_a_tag_or_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, host, repository, tag, has_digest) in [
            ("docker.io/library/busybox:1.36", "docker.io", "library/busybox", Some("1.36"), false),
            ("localhost:5000/a", "localhost:5000", "a", None, false),
            (&format!("[::1]:5000/a/b_c@{digest}"), "[::1]:5000", "a/b_c", None, true),
            (&format!("h.example/a:t@{digest}"), "h.example", "a", Some("t"), true),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.host(), host);
            assert_eq!(reference.repository(), repository);
            assert_eq!(reference.tag(), tag);
            assert_eq!(reference.digest().is_some(), has_digest);
            assert_eq!(reference.to_string(), text);
        }
        assert_eq!(Reference::parse("[::1]:5000/a").unwrap().host_name(), "::1");
    }

    #[test]
    fn what_would_become_another_address_or_path_is_refused() {
        for wrong in [
            "",
            "a",
            "/a",
            "../a",
            "./a",
            "a..b/c",
            "a@b/c",
            "a?b/c",
            "a:/b",
            "a:x/b",
            "[::1/a",
            "h/",
            "h/..",
            "h/a/../b",
            "h/a//b",
            "h/a?b",
            "h/a%2e",
            "h/a:",
            "h/a:b/c",
            "h/a@sha256:0a",
            "h/a:t t",
            "https://h/a",
            &format!("h/{}", "a".repeat(5000)),
            &format!("h/a:{}", "t".repeat(129)),
        ] {
            let error = Reference::parse(wrong).unwrap_err();
            assert!(matches!(error, RegistryError::Reference { .. }), "{wrong}: {error}");
        }
    }
}
