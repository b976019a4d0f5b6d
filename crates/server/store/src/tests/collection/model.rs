//! What a collection has to keep, computed in another way than it does.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Labels, Node, NodeKind};

/// What a label means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Root,
    RefersTo(Node),
    ReferredToBy(Node),
}

/// What an object is, as far as collections are concerned.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    pub(super) says: Vec<Says>,
    /// It is kept by itself.
    pub(super) is_kept: bool,
    /// What it consists of.
    pub(super) parts: Vec<Node>,
    /// What it needs beside that.
    pub(super) needs: Vec<Node>,
    /// Of a write that shares another namespace's blob: its digest.
    pub(super) shares: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Lease {
    pub(super) is_flat: bool,
    pub(super) is_over: bool,
    pub(super) resources: BTreeSet<Node>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<Node, Object>,
    /// By namespace and id.
    pub(super) leases: BTreeMap<(&'static str, String), Lease>,
}

impl Model {
    /// All that is kept, be it there or not.
    pub(super) fn kept(&self) -> BTreeSet<Node> {
        let (mut full, mut flat) = (BTreeSet::new(), BTreeSet::new());
        for (node, object) in &self.objects {
            if object.is_kept || object.says.contains(&Says::Root) {
                full.insert(node.clone());
            }
        }
        for lease in self.leases.values().filter(|lease| !lease.is_over) {
            for node in &lease.resources {
                let is_flat = lease.is_flat && node.kind != NodeKind::Ingest;
                if is_flat { &mut flat } else { &mut full }.insert(node.clone());
            }
        }
        // Until nothing is added any more.
        loop {
            let count = full.len() + flat.len();
            for (node, object) in &self.objects {
                if flat.contains(node) {
                    flat.extend(object.parts.iter().cloned());
                }
                for says in &object.says {
                    match says {
                        Says::RefersTo(other) if full.contains(node) => {
                            full.insert(other.clone());
                        }
                        Says::ReferredToBy(other) if full.contains(other) => {
                            full.insert(node.clone());
                        }
                        _ => {}
                    }
                }
                if full.contains(node) {
                    full.extend(object.parts.iter().chain(&object.needs).cloned());
                    let is_shared = |other: &&Node| {
                        other.kind == NodeKind::Blob && Some(&other.key) == object.shares.as_ref()
                    };
                    full.extend(self.objects.keys().filter(is_shared).cloned());
                }
            }
            if full.len() + flat.len() == count {
                full.append(&mut flat);
                return full;
            }
        }
    }

    /// Those that are there, less those that need not be.
    pub(super) fn left(&self) -> BTreeSet<Node> {
        let kept = self.kept();
        self.objects.keys().filter(|node| kept.contains(node)).cloned().collect()
    }
}

/// The labels that say so. Those of one kind have different names.
pub(super) fn labels(says: &[Says]) -> Labels {
    let label = |(number, says): (usize, &Says)| match says {
        Says::Root => ("containerd.io/gc.root".to_owned(), "now".to_owned()),
        Says::RefersTo(node) => named("ref", number, node),
        Says::ReferredToBy(node) => named("bref", number, node),
    };
    says.iter().enumerate().map(label).collect()
}

fn named(what: &str, number: usize, node: &Node) -> (String, String) {
    let prefix = format!("containerd.io/gc.{what}");
    match node.kind {
        NodeKind::Blob => (format!("{prefix}.content.{number}"), node.key.clone()),
        NodeKind::Container => (format!("{prefix}.container/{number}"), node.key.clone()),
        NodeKind::Image => (format!("{prefix}.image.{number}"), node.key.clone()),
        NodeKind::Snapshot => {
            let (snapshotter, key) = node.key.split_once('/').unwrap();
            (format!("{prefix}.snapshot.{snapshotter}/{number}"), key.to_owned())
        }
        NodeKind::Ingest => unreachable!("no label names a write"),
    }
}
