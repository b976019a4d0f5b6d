//! What labels say to the collection.

use std::time::SystemTime;

use super::node::{Node, NodeKind, snapshot};
use crate::{LABEL_EXPIRE, Labels, rfc3339};

const ROOT: &str = "containerd.io/gc.root";
const FLAT: &str = "containerd.io/gc.flat";
const REFERENCE: &str = "containerd.io/gc.ref.";
const BACK_REFERENCE: &str = "containerd.io/gc.bref.";

/// Whether an object is kept by itself.
pub(super) fn is_root(labels: &Labels) -> bool {
    labels.contains_key(ROOT)
}

/// Whether a lease keeps its resources alone, and not what they refer to by labels.
pub(super) fn is_flat(labels: &Labels) -> bool {
    labels.contains_key(FLAT)
}

/// Whether an object is over by `now`. One whose end is no time is not.
pub(super) fn is_over(labels: &Labels, now: SystemTime) -> bool {
    labels.get(LABEL_EXPIRE).and_then(|end| rfc3339::parse(end)).is_some_and(|end| end < now)
}

/// What an object refers to: as long as it is kept, these are.
pub(super) fn references(namespace: &str, labels: &Labels) -> Vec<Node> {
    nodes(namespace, labels, REFERENCE, &[("content", NodeKind::Blob), ("image", NodeKind::Image)])
}

/// What an object says that it is referred to by: as long as one of these is kept, the object is.
pub(super) fn back_references(namespace: &str, labels: &Labels) -> Vec<Node> {
    let kinds = [
        ("container", NodeKind::Container),
        ("content", NodeKind::Blob),
        ("image", NodeKind::Image),
    ];
    nodes(namespace, labels, BACK_REFERENCE, &kinds)
}

/// Nodes named by the labels that begin with `prefix` and the name of a kind. Behind that may come `.` or `/`, and any
/// name.
fn nodes(namespace: &str, labels: &Labels, prefix: &str, kinds: &[(&str, NodeKind)]) -> Vec<Node> {
    let node = |(key, value): (&str, &str)| {
        if let Some(snapshotter) = key.strip_prefix("snapshot.") {
            let snapshotter = snapshotter.split('/').next().unwrap_or_default();
            return Some(snapshot(namespace, snapshotter, value));
        }
        let (kind, _) = kinds.iter().find_map(|(name, kind)| {
            let rest = key.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with(['.', '/'])).then_some((*kind, rest))
        })?;
        Some(Node::new(kind, namespace, value))
    };
    with_prefix(labels, prefix).filter_map(node).collect()
}

/// The labels that begin so: the rest of each key, and its value.
fn with_prefix<'a>(
    labels: &'a Labels,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    labels
        .range(prefix.to_owned()..)
        .map_while(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn references_are_labels() {
        let found = labels(&[
            ("containerd.io/gc.ref.content", "a"),
            ("containerd.io/gc.ref.content.l.0", "b"),
            ("containerd.io/gc.ref.content/x", "c"),
            ("containerd.io/gc.ref.contents", "no"),
            ("containerd.io/gc.ref.image.x", "i"),
            ("containerd.io/gc.ref.snapshot.overlayfs", "s"),
            ("containerd.io/gc.ref.snapshot.native/x", "t"),
            ("containerd.io/gc.ref.container", "no"),
            ("containerd.io/gc.bref.content", "e"),
            ("containerd.io/gc.bref.container.x", "f"),
            ("containerd.io/gc.bref.image", "g"),
            ("containerd.io/gc.bref.snapshot.native/x", "h"),
            ("other", "no"),
        ]);
        let node = |kind, key| Node::new(kind, "ns", key);
        let expected = [
            node(NodeKind::Blob, "a"),
            node(NodeKind::Blob, "b"),
            node(NodeKind::Blob, "c"),
            node(NodeKind::Image, "i"),
            snapshot("ns", "native", "t"),
            snapshot("ns", "overlayfs", "s"),
        ];
        assert_eq!(references("ns", &found), expected);
        let expected = [
            node(NodeKind::Container, "f"),
            node(NodeKind::Blob, "e"),
            node(NodeKind::Image, "g"),
            snapshot("ns", "native", "h"),
        ];
        assert_eq!(back_references("ns", &found), expected);
        assert!(!is_root(&found) && !is_flat(&found));
    }

    #[test]
    fn ends_and_roots_are_labels() {
        assert!(is_root(&labels(&[(ROOT, "2001-01-01T00:00:00Z")])));
        assert!(!is_root(&labels(&[("containerd.io/gc.root.x", "now")])));
        assert!(is_flat(&labels(&[(FLAT, "x")])));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let ending = labels(&[(LABEL_EXPIRE, "1970-01-01T00:01:00Z")]);
        assert!(is_over(&ending, at(61)) && !is_over(&ending, at(60)));
        assert!(!is_over(&labels(&[(LABEL_EXPIRE, "soon")]), at(61)));
        assert!(!is_over(&Labels::new(), at(61)));
    }
}
