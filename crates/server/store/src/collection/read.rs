//! The graph as it is in the database.

use std::time::SystemTime;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{
    graph::{Graph, Reach, References},
    labels,
    node::{Node, NodeKind, snapshot},
};
use crate::{
    Image, Labels, Snapshot, codec, content, images, snapshots,
    tables::{
        self, Attempt, BLOB_OWNERS, BLOBS, CONTAINERS, IMAGES, INGESTS, Key, LEASES, RESOURCES,
        SNAPSHOTS,
    },
};

/// Which nodes there are, and which of them are kept at `now`.
pub(super) fn mark(transaction: &ReadTransaction, now: SystemTime) -> Attempt<Graph> {
    let mut seen = Seen { graph: Graph::default(), roots: Vec::new(), now };
    seen.blobs(transaction)?;
    seen.containers(transaction)?;
    seen.images(transaction)?;
    seen.ingests(transaction)?;
    seen.leases(transaction)?;
    seen.snapshots(transaction)?;
    let Seen { mut graph, roots, .. } = seen;
    for (number, reach) in roots {
        graph.keep(number, reach);
    }
    Ok(graph)
}

struct Seen {
    graph: Graph,
    /// By number.
    roots: Vec<(usize, Reach)>,
    now: SystemTime,
}

impl Seen {
    fn blobs(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        each(&transaction.open_table(BLOBS)?, |namespace, digest, record| {
            let node = Node::new(NodeKind::Blob, namespace, digest);
            let labels = blob_labels(digest, record)?;
            self.label(&node, &labels);
            self.see(node, labelled(namespace, &labels), labels::is_root(&labels));
            Ok(())
        })
    }

    fn containers(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        each(&transaction.open_table(CONTAINERS)?, |namespace, id, record| {
            let node = Node::new(NodeKind::Container, namespace, id);
            let number = self.graph.refer(node, of_container(namespace, id, record)?);
            self.roots.push((number, Reach::Full));
            Ok(())
        })
    }

    fn images(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        each(&transaction.open_table(IMAGES)?, |namespace, name, record| {
            let node = Node::new(NodeKind::Image, namespace, name);
            let (references, labels) = of_image(namespace, name, record)?;
            self.label(&node, &labels);
            self.see(node, references, !labels::is_over(&labels, self.now));
            Ok(())
        })
    }

    fn ingests(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        let owners = transaction.open_table(BLOB_OWNERS)?;
        each(&transaction.open_table(INGESTS)?, |namespace, reference, record| {
            let (references, end) = of_ingest(&owners, namespace, reference, record)?;
            if end.is_some_and(|end| end > self.now) {
                // Nothing but leases refers to a write: what it needs is kept, and nobody asks for the write itself.
                for needed in references.others {
                    let number = self.graph.number(needed);
                    self.roots.push((number, Reach::Full));
                }
            } else {
                self.see(Node::new(NodeKind::Ingest, namespace, reference), references, false);
            }
            Ok(())
        })
    }

    fn leases(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        let resources = transaction.open_table(RESOURCES)?;
        each(&transaction.open_table(LEASES)?, |namespace, id, record| {
            let what = || format!("lease {id:?}");
            let lease = tables::decoded(what, codec::decode_lease(id, record))?;
            if lease.expires_at().is_some_and(|end| end <= self.now) {
                return Ok(());
            }
            let is_flat = labels::is_flat(&lease.labels);
            for entry in resources.range((namespace, id, "", "")..)? {
                let (entry, _) = entry?;
                let (of, lease, kind, key) = entry.value();
                if (of, lease) != (namespace, id) {
                    break;
                }
                if let Some(node) = Node::of_resource(namespace, kind, key) {
                    // What a write will be has no references yet.
                    let is_flat = is_flat && node.kind != NodeKind::Ingest;
                    let number = self.graph.number(node);
                    self.roots.push((number, if is_flat { Reach::Flat } else { Reach::Full }));
                }
            }
            Ok(())
        })
    }

    fn snapshots(&mut self, transaction: &ReadTransaction) -> Attempt<()> {
        snapshots::query::each(transaction, |namespace, snapshotter, found| {
            let node = snapshot(namespace, snapshotter, &found.key);
            self.label(&node, &found.labels);
            let is_root = labels::is_root(&found.labels);
            // It is greater than its parent's.
            let made = found.directory;
            self.see_made(node, of_snapshot(namespace, snapshotter, found), is_root, made);
            Ok(())
        })
    }

    /// Notes what could be removed.
    fn see(&mut self, node: Node, references: References, is_root: bool) {
        self.see_made(node, references, is_root, 0);
    }

    fn see_made(&mut self, node: Node, references: References, is_root: bool, made: u64) {
        let number = self.graph.refer(node, references);
        if is_root {
            self.roots.push((number, Reach::Full));
        } else {
            self.graph.can_be_removed(number, made);
        }
    }

    /// Notes back references.
    fn label(&mut self, node: &Node, labels: &Labels) {
        for other in labels::back_references(&node.namespace, labels) {
            self.graph.depend(node.clone(), other);
        }
    }
}

/// What a node refers to now; nothing if it is not there.
pub(super) fn references(transaction: &WriteTransaction, node: &Node) -> Attempt<References> {
    let (namespace, key) = (node.namespace.as_str(), node.key.as_str());
    let table = match node.kind {
        NodeKind::Blob => BLOBS,
        NodeKind::Container => CONTAINERS,
        NodeKind::Image => IMAGES,
        NodeKind::Ingest => INGESTS,
        NodeKind::Snapshot => return snapshot_references(transaction, namespace, key),
    };
    let table = transaction.open_table(table)?;
    let Some(record) = table.get((namespace, key))? else { return Ok(References::default()) };
    match node.kind {
        NodeKind::Container => of_container(namespace, key, record.value()),
        NodeKind::Image => Ok(of_image(namespace, key, record.value())?.0),
        NodeKind::Ingest => {
            let owners = transaction.open_table(BLOB_OWNERS)?;
            Ok(of_ingest(&owners, namespace, key, record.value())?.0)
        }
        NodeKind::Blob | NodeKind::Snapshot => {
            Ok(labelled(namespace, &blob_labels(key, record.value())?))
        }
    }
}

fn snapshot_references(
    transaction: &WriteTransaction,
    namespace: &str,
    key: &str,
) -> Attempt<References> {
    let table = transaction.open_table(SNAPSHOTS)?;
    let Some((snapshotter, key)) = key.split_once('/') else { return Ok(References::default()) };
    let Some(record) = table.get((namespace, snapshotter, key))? else {
        return Ok(References::default());
    };
    let found = snapshots::record::decode(namespace, key, record.value())?;
    Ok(of_snapshot(namespace, snapshotter, found))
}

fn labelled(namespace: &str, labels: &Labels) -> References {
    References { parts: Vec::new(), others: labels::references(namespace, labels) }
}

fn blob_labels(digest: &str, record: &[u8]) -> Attempt<Labels> {
    let blob = tables::decoded(|| format!("content {digest}"), codec::decode_blob(digest, record));
    Ok(blob?.labels)
}

fn of_container(namespace: &str, id: &str, record: &[u8]) -> Attempt<References> {
    let container = codec::decode_container(id, record);
    let container = tables::decoded(|| format!("container {id:?}"), container)?;
    let mut others = labels::references(namespace, &container.labels);
    if !container.snapshotter.is_empty() {
        others.push(snapshot(namespace, &container.snapshotter, &container.snapshot_key));
    }
    Ok(References { parts: Vec::new(), others })
}

fn of_image(namespace: &str, name: &str, record: &[u8]) -> Attempt<(References, Labels)> {
    let image = images::decode(name, record);
    let Image { labels, target, .. } = tables::decoded(|| format!("image {name:?}"), image)?;
    let parts = vec![Node::new(NodeKind::Blob, namespace, &target.digest)];
    Ok((References { parts, others: labels::references(namespace, &labels) }, labels))
}

fn of_snapshot(namespace: &str, snapshotter: &str, found: Snapshot) -> References {
    let Snapshot { parent, labels, .. } = found;
    let parts = match parent.is_empty() {
        true => Vec::new(),
        false => vec![snapshot(namespace, snapshotter, &parent)],
    };
    References { parts, others: labels::references(namespace, &labels) }
}

/// What a write refers to, and until when it is kept without a lease, if it is at all.
///
/// One that is shared needs the blob that another namespace has, be that kept there or not.
fn of_ingest(
    owners: &impl ReadableTable<Key, ()>,
    namespace: &str,
    reference: &str,
    record: &[u8],
) -> Attempt<(References, Option<SystemTime>)> {
    let ingest = codec::decode_ingest(reference, record);
    let ingest = tables::decoded(|| format!("ingest {reference:?}"), ingest)?;
    let mut others = Vec::new();
    if let Some(digest) = &ingest.expected {
        others.push(Node::new(NodeKind::Blob, namespace, digest.as_str()));
        if ingest.is_shared {
            let owners = content::owners_in(owners, digest.as_str())?;
            others.extend(owners.iter().map(|o| Node::new(NodeKind::Blob, o, digest.as_str())));
        }
    }
    Ok((References { parts: Vec::new(), others }, ingest.expires_at))
}

/// Each namespace, name and record of a table.
fn each(
    table: &impl ReadableTable<Key, &'static [u8]>,
    mut each: impl FnMut(&str, &str, &[u8]) -> Attempt<()>,
) -> Attempt<()> {
    for entry in table.iter()? {
        let (key, record) = entry?;
        let (namespace, name) = key.value();
        each(namespace, name, record.value())?;
    }
    Ok(())
}
