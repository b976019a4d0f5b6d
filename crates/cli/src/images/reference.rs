//! Names of images as people write them.

/// The names that an image may have which a person calls like this: as it is written, and in full as registries and
/// Docker have it, `docker.io/library/alpine:latest` for `alpine`.
pub(crate) fn candidates(text: &str) -> Vec<String> {
    let full = full(text);
    if full == text { vec![full] } else { vec![text.to_owned(), full] }
}

/// The name in full.
pub(crate) fn full(text: &str) -> String {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let is_tagged = path.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if is_tagged || digest.is_some() { "" } else { ":latest" };
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{host}/{path}{tag}{digest}")
}

/// Whether the first part of a name is that of a registry.
fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_registries() {
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("quay.io/a/b@sha256:0a", "quay.io/a/b@sha256:0a"),
        ] {
            assert_eq!(full(text), expected);
        }
        assert_eq!(candidates("quay.io/a:1"), ["quay.io/a:1"]);
        assert_eq!(candidates("a"), ["a", "docker.io/library/a:latest"]);
    }
}
