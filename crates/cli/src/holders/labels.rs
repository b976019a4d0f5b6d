//! References that labels say.

use std::collections::BTreeMap;

use super::Node;

const REFERENCE: &str = "containerd.io/gc.ref.";
const BACK_REFERENCE: &str = "containerd.io/gc.bref.";

/// The label of what is kept for its own sake.
pub(super) const ROOT: &str = "containerd.io/gc.root";

/// The label with the time at which something ends, and that of a lease which does not follow labels.
pub(crate) const EXPIRES: &str = "containerd.io/gc.expire";
pub(super) const FLAT: &str = "containerd.io/gc.flat";

/// What an object with these labels refers to.
pub(super) fn references(labels: &BTreeMap<String, String>) -> Vec<Node> {
    all(labels, REFERENCE)
}

/// What refers to an object with these labels.
pub(super) fn referrers(labels: &BTreeMap<String, String>) -> Vec<Node> {
    all(labels, BACK_REFERENCE)
}

fn all(labels: &BTreeMap<String, String>, prefix: &str) -> Vec<Node> {
    let named = labels.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
    named.filter_map(|(kind, value)| node(kind, value)).collect()
}

/// The object that a label names: its kind, after which `.` or `/` and anything may follow.
fn node(kind: &str, value: &str) -> Option<Node> {
    let is = |name: &str| {
        kind.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
    };
    if let Some(rest) = kind.strip_prefix("snapshot.") {
        let snapshotter = rest.split('/').next().unwrap_or(rest).to_owned();
        return Some(Node::Snapshot { snapshotter, key: value.to_owned() });
    }
    let of: fn(String) -> Node = match () {
        () if is("content") => Node::Content,
        () if is("image") => Node::Image,
        () if is("container") => Node::Container,
        () => return None,
    };
    Some(of(value.to_owned()))
}

/// What a resource of a lease names.
pub(super) fn resource(kind: &str, id: &str) -> Option<Node> {
    let id = id.to_owned();
    match kind.split_once('/') {
        Some(("snapshots", name)) => Some(Node::Snapshot { snapshotter: name.to_owned(), key: id }),
        None => match kind {
            "content" => Some(Node::Content(id)),
            "images" => Some(Node::Image(id)),
            "ingests" => Some(Node::Write(id)),
            _ => None,
        },
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_objects() {
        let labels = [
            ("containerd.io/gc.ref.content", "a"),
            ("containerd.io/gc.ref.content.l.0", "b"),
            ("containerd.io/gc.ref.contents", "no kind"),
            ("containerd.io/gc.ref.snapshot.overlayfs/x", "c"),
            ("containerd.io/gc.bref.container", "d"),
            ("other", "e"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let snapshot = Node::Snapshot { snapshotter: "overlayfs".into(), key: "c".into() };
        assert_eq!(
            references(&labels),
            [Node::Content("a".into()), Node::Content("b".into()), snapshot.clone()]
        );
        assert_eq!(referrers(&labels), [Node::Container("d".into())]);
        assert_eq!(resource("snapshots/overlayfs", "c"), Some(snapshot));
        assert_eq!(resource("ingests", "r"), Some(Node::Write("r".into())));
        assert_eq!(resource("content/x", "r"), None);
    }
}
