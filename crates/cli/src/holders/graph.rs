//! Objects, their references, and what holds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

/// An object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Image(String),
    Container(String),
    Lease(String),
    Content(String),
    Snapshot {
        snapshotter: String,
        key: String,
    },
    /// A write of content under way, by its reference.
    Write(String),
}

impl Node {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Node::Image(_) => "image",
            Node::Container(_) => "container",
            Node::Lease(_) => "lease",
            Node::Content(_) => "content",
            Node::Snapshot { .. } => "snapshot",
            Node::Write(_) => "write",
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Node::Image(name)
            | Node::Container(name)
            | Node::Lease(name)
            | Node::Content(name)
            | Node::Write(name) => name.clone(),
            Node::Snapshot { snapshotter, key } => format!("{snapshotter}/{key}"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is known of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    /// Bytes on the disk that are its own.
    pub(crate) size: u64,
    /// It is kept for its own sake.
    pub(crate) is_root: bool,
    /// It keeps what it names, and parents and targets of that, but nothing that labels name.
    pub(crate) is_flat: bool,
    /// Its parent or target.
    pub(crate) above: Option<Node>,
    /// What labels or, of a lease, resources name.
    pub(crate) refers: Vec<Node>,
}

/// The objects of a namespace. A reference may lead to what is not there.
#[derive(Debug, Default)]
pub(crate) struct Graph(pub(crate) BTreeMap<Node, Object>);

impl Graph {
    /// Which roots hold each object, without those that `gone` names. What nothing holds is not in it.
    pub(crate) fn holders(&self, gone: &BTreeSet<Node>) -> BTreeMap<&Node, BTreeSet<&Node>> {
        let mut holders: BTreeMap<&Node, BTreeSet<&Node>> = BTreeMap::new();
        let roots = self.0.iter().filter(|(node, it)| it.is_root && !gone.contains(node));
        for (root, object) in roots {
            for held in self.reached(root, object.is_flat, gone) {
                holders.entry(held).or_default().insert(root);
            }
        }
        holders
    }

    /// What a root leads to, itself included.
    fn reached(&self, root: &Node, is_flat: bool, gone: &BTreeSet<Node>) -> BTreeSet<&Node> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![root];
        while let Some(next) = waiting.pop() {
            let Some((node, object)) = self.0.get_key_value(next) else { continue };
            if gone.contains(node) || !reached.insert(node) {
                continue;
            }
            waiting.extend(&object.above);
            if !is_flat || node == root {
                waiting.extend(&object.refers);
            }
        }
        reached
    }

    /// How many bytes these have.
    pub(crate) fn size<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> u64 {
        nodes.filter_map(|node| self.0.get(node)).map(|object| object.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(name: &str) -> Node {
        Node::Content(name.to_owned())
    }

    fn object(size: u64, is_root: bool, above: Option<Node>, refers: &[Node]) -> Object {
        Object { size, is_root, is_flat: false, above, refers: refers.to_vec() }
    }

    /// An image of a manifest with a layer, a lease of the manifest alone, and a layer of nobody's.
    fn graph() -> Graph {
        let (image, lease) = (Node::Image("i".into()), Node::Lease("l".into()));
        let mut graph = Graph::default();
        graph.0.insert(image, object(0, true, Some(content("manifest")), &[]));
        let of_lease = object(0, true, None, &[content("manifest"), content("missing")]);
        graph.0.insert(lease, Object { is_flat: true, ..of_lease });
        // It refers to itself, too.
        let refers = [content("layer"), content("manifest")];
        graph.0.insert(content("manifest"), object(1, false, None, &refers));
        graph.0.insert(content("layer"), object(10, false, None, &[]));
        graph.0.insert(content("other"), object(100, false, None, &[]));
        graph
    }

    fn held(graph: &Graph, gone: &[Node]) -> Vec<(String, String)> {
        let gone = gone.iter().cloned().collect();
        let join = |roots: BTreeSet<&Node>| {
            roots.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let holders = graph.holders(&gone).into_iter();
        holders
            .filter(|(node, _)| matches!(node, Node::Content(_)))
            .map(|(node, roots)| (node.name(), join(roots)))
            .collect()
    }

    #[test]
    fn roots_hold_what_they_lead_to() {
        let pair = |name: &str, by: &str| (name.to_owned(), by.to_owned());
        let graph = graph();
        assert_eq!(
            held(&graph, &[]),
            [pair("layer", "image i"), pair("manifest", "image i, lease l")]
        );
        assert_eq!(held(&graph, &[Node::Image("i".into())]), [pair("manifest", "lease l")]);
        assert_eq!(graph.size([content("layer"), content("missing")].iter()), 10);
    }
}
