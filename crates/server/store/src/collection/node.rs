//! What refers, and is referred to.

/// What a node is, in the order in which they are removed: what refers comes before what it refers to, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// A container; its key is its id. It is always kept.
    Container,
    /// An image; its key is its name.
    Image,
    /// A write under way; its key is its reference.
    Ingest,
    /// A blob; its key is a digest.
    Blob,
    /// A snapshot; its key is `SNAPSHOTTER/KEY`.
    Snapshot,
}

/// How a kind is written in the database.
const NAMES: [(NodeKind, &str); 5] = [
    (NodeKind::Blob, "content"),
    (NodeKind::Container, "containers"),
    (NodeKind::Image, "images"),
    (NodeKind::Ingest, "ingests"),
    (NodeKind::Snapshot, "snapshots"),
];

impl NodeKind {
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// An object of a namespace. It need not be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The namespace as its records have it.
    pub namespace: String,
    /// Its name there.
    pub key: String,
}

impl Node {
    pub(crate) fn new(kind: NodeKind, namespace: &str, key: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), key: key.to_owned() }
    }

    /// What a lease's resource is, of which the lease has `kind` and `key`.
    pub(crate) fn of_resource(namespace: &str, kind: &str, key: &str) -> Option<Self> {
        match kind.strip_prefix("snapshots/") {
            Some(snapshotter) => Some(snapshot(namespace, snapshotter, key)),
            None => NodeKind::named(kind).map(|kind| Self::new(kind, namespace, key)),
        }
    }
}

pub(crate) fn snapshot(namespace: &str, snapshotter: &str, key: &str) -> Node {
    Node::new(NodeKind::Snapshot, namespace, &format!("{snapshotter}/{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_leases_are_nodes() {
        let node = |kind, key| Node::of_resource("ns", kind, key);
        assert_eq!(node("content", "d"), Some(Node::new(NodeKind::Blob, "ns", "d")));
        assert_eq!(node("images", "i"), Some(Node::new(NodeKind::Image, "ns", "i")));
        assert_eq!(node("ingests", "r"), Some(Node::new(NodeKind::Ingest, "ns", "r")));
        assert_eq!(node("snapshots/native", "k"), Some(snapshot("ns", "native", "k")));
        assert_eq!(node("leases", "l"), None);
        for (kind, name) in NAMES {
            assert_eq!((kind.name(), NodeKind::named(name)), (name, Some(kind)));
        }
    }
}
