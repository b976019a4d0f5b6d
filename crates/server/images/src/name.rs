//! Names of images, as clients of Docker write them, and as containerd has them.

use gantry_store::Digest;

use crate::ImageError;

/// By this annotation an archive's index says the name of an image, as containerd has it.
pub const ANNOTATION: &str = "io.containerd.image.name";

/// The same, or a tag alone, as the OCI image specification has it.
pub const LAYOUT_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Where images are whose names have no registry.
const DEFAULT_DOMAIN: &str = "docker.io";

/// Its former name.
const FORMER_DOMAIN: &str = "index.docker.io";

/// Images of that registry's own, without a path.
const LIBRARY: &str = "library/";

/// The tag of a name that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// The longest tag in bytes.
const LONGEST_TAG: usize = 128;

/// The longest name in bytes, without tag and digest.
const LONGEST_NAME: usize = 255;

/// A name that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with a port perhaps: `docker.io`.
    pub domain: String,
    /// The repository in that registry: `library/busybox`.
    pub path: String,
    /// The tag; `latest` if the name has no digest either.
    pub tag: Option<String>,
    /// The digest of what is named.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as Docker's clients do: `busybox` is `docker.io/library/busybox:latest`.
    ///
    /// # Errors
    /// [`ImageError::Name`].
    pub fn parse(name: &str) -> Result<Self, ImageError> {
        let wrong = |problem| ImageError::Name { name: shown(name), problem };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(wrong)?)),
            None => (name, None),
        };
        let (domain, rest) = split_domain(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let path = match domain == DEFAULT_DOMAIN && !path.contains('/') {
            true => format!("{LIBRARY}{path}"),
            false => path.to_owned(),
        };
        if !is_domain(domain) {
            return Err(wrong("its registry is none"));
        }
        if !path.split('/').all(is_component) {
            return Err(wrong(
                "a part of its path is empty, or has something else than lower-case letters, digits and separators between them",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("its tag is none"));
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return Err(wrong("it is longer than 255 bytes"));
        }
        let default = || digest.is_none().then(|| DEFAULT_TAG.to_owned());
        let tag = tag.map(str::to_owned).or_else(default);
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }

    /// The name of an image in containerd's store: by its digest if there is one, else by its tag.
    #[must_use]
    pub fn normalized(&self) -> String {
        let Self { domain, path, tag, digest } = self;
        match (digest, tag) {
            (Some(digest), _) => format!("{domain}/{path}@{digest}"),
            (None, tag) => format!("{domain}/{path}:{}", tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// The shortest name of the same, as Docker's clients show it.
    #[must_use]
    pub fn familiar(&self) -> String {
        let Self { domain, path, tag, digest } = self;
        let mut name = match domain == DEFAULT_DOMAIN {
            true => path
                .strip_prefix(LIBRARY)
                .filter(|path| !path.contains('/'))
                .unwrap_or(path)
                .to_owned(),
            false => format!("{domain}/{path}"),
        };
        if let Some(tag) = tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

/// What a layout's index calls an image of this name: its tag, if the name has a registry, else all of it, as containerd
/// does.
#[must_use]
pub fn layout_name(name: &str) -> String {
    let Some((_, path)) = name.split_once('/') else { return name.to_owned() };
    let object = path.find([':', '@']).map(|at| &path[at..]);
    let tag = object.and_then(|object| object.strip_prefix(':')).filter(|tag| !tag.is_empty());
    tag.unwrap_or(name).to_owned()
}

/// What an archive's image is called whose archive says `name`: with `prefix` before a mere tag. `None` if the name
/// is a whole one that does not begin with the prefix, unless that may be.
#[must_use]
pub fn with_prefix(name: &str, prefix: &str, may_be_other: bool) -> Option<String> {
    if prefix.is_empty() || name.is_empty() {
        return None;
    }
    if !name.contains(['/', ':', '@']) {
        return Some(format!("{prefix}:{name}"));
    }
    let rest = name.strip_prefix(prefix);
    let begins = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']));
    (may_be_other || begins).then(|| name.to_owned())
}

/// The registry that a name begins with, and the rest.
fn split_domain(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else { return (DEFAULT_DOMAIN, name) };
    let is_domain = first.contains(['.', ':'])
        || first == "localhost"
        || first.chars().any(|character| character.is_ascii_uppercase());
    match (is_domain, first) {
        (false, _) => (DEFAULT_DOMAIN, name),
        (true, FORMER_DOMAIN) => (DEFAULT_DOMAIN, rest),
        (true, domain) => (domain, rest),
    }
}

/// A host's name or address, and a port perhaps.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => host.split('.').all(is_label),
    };
    is_host && port.is_none_or(is_port)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_well = bytes.first().is_some_and(is_letter) && bytes.last().is_some_and(is_letter);
    let mut separators = bytes.split(is_letter);
    ends_well
        && separators.all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Not more of it than an error should show.
fn shown(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_docker() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (name, normalized, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("ghcr.io/a__b/c-d.e:V_1", "ghcr.io/a__b/c-d.e:V_1", "ghcr.io/a__b/c-d.e:V_1"),
        ] {
            let found = Reference::parse(name).unwrap();
            assert_eq!((&*found.normalized(), &*found.familiar()), (normalized, familiar));
        }
        let both = Reference::parse(&format!("a:b@{digest}")).unwrap();
        assert_eq!(both.normalized(), format!("docker.io/library/a@{digest}"));
        assert_eq!(both.familiar(), format!("a:b@{digest}"));
        for bad in [
            "",
            ":",
            "a:",
            "A",
            "a//b",
            "a/B",
            "-a",
            "a-",
            "a..b",
            "a b",
            "a@sha256:1",
            "a:b:c",
            "http://a/b",
            "-.x/a",
            "a.b:x/c",
            &"a/".repeat(200),
            &format!("a:{}", "x".repeat(129)),
        ] {
            let error = Reference::parse(bad).unwrap_err();
            assert!(error.to_string().starts_with("invalid reference"), "{error}");
        }
    }

    #[test]
    fn a_layout_calls_an_image_by_its_tag() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let whole = format!("docker.io/library/a@{digest}");
        for (name, layout) in [
            ("docker.io/library/a:b", "b"),
            ("localhost:5000/a:b", "b"),
            ("localhost:5000/a", "localhost:5000/a"),
            (&*whole, &*whole),
            ("a", "a"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(layout_name(name), layout);
        }
    }

    #[test]
    fn a_prefix_makes_a_name_of_a_tag() {
        assert_eq!(with_prefix("v1", "a/b", false).unwrap(), "a/b:v1");
        assert_eq!(with_prefix("a/b:v1", "a/b", false).unwrap(), "a/b:v1");
        assert_eq!(with_prefix("a/b/c:v1", "a/b", false).unwrap(), "a/b/c:v1");
        assert_eq!(with_prefix("a/bc:v1", "a/b", false), None);
        assert_eq!(with_prefix("a/bc:v1", "a/b", true).unwrap(), "a/bc:v1");
        assert_eq!(with_prefix("", "a/b", true), None);
        assert_eq!(with_prefix("v1", "", true), None);
    }
}
