//! A collection, piece by piece.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use gantry_domain::Namespace;
use redb::WriteTransaction;
use tokio::sync::OwnedMutexGuard;

use super::{
    changes,
    graph::{Graph, Reach},
    node::{Node, NodeKind},
    read,
};
use crate::{
    Digest, Store, StoreError, content, images, snapshots,
    tables::{Attempt, Failure},
};

/// What nothing refers to, to be removed piece by piece.
///
/// One that is dropped before [`Collection::end`] leaves the rest to the next one.
pub struct Collection {
    store: Store,
    /// None after a failure: what was noted until then may be taken, and is not in a graph.
    graph: Option<Graph>,
    waiting: VecDeque<Node>,
    /// Whether one was kept that would be removed otherwise.
    is_any_kept: bool,
    /// Another one would take what is noted for this one.
    _one_at_a_time: OwnedMutexGuard<()>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Removed {
    /// If `is_last`, no namespace has it, and its file is nobody's.
    Blob {
        namespace: Namespace,
        digest: Digest,
        is_last: bool,
    },
    Image {
        namespace: Namespace,
        name: String,
    },
    /// Its file is nobody's.
    Ingest {
        namespace: Namespace,
        reference: String,
    },
    /// Its directory is nobody's.
    Snapshot {
        namespace: Namespace,
        snapshotter: String,
        key: String,
        directory: u64,
    },
}

impl Store {
    /// Finds what nothing refers to at `now`; `None` if that is nothing. Waits for the end of any other collection.
    ///
    /// # Errors
    /// As all calls; of a record that is damaged nobody knows what it refers to, so that nothing is collected.
    pub async fn collect(&self, now: SystemTime) -> Result<Option<Collection>, StoreError> {
        let one_at_a_time = Arc::clone(&self.0.collecting).lock_owned().await;
        let look = move |transaction: &_| {
            let is_empty = read::mark(transaction, now)?.removable().is_empty();
            Ok((is_empty, changes::are_noted(transaction)?))
        };
        let (is_empty, are_noted) = self.0.read(look).await?;
        if is_empty {
            // Another server began a collection.
            if are_noted {
                self.0.write(0, changes::end).await?;
            }
            return Ok(None);
        }
        self.0.write(0, changes::begin).await?;
        let mark = move |transaction: &_| {
            let graph = read::mark(transaction, now)?;
            let waiting = graph.removable().into();
            Ok((graph, waiting))
        };
        let (graph, waiting) = self.0.read(mark).await?;
        Ok(Some(Collection {
            store: self.clone(),
            graph: Some(graph),
            waiting,
            is_any_kept: false,
            _one_at_a_time: one_at_a_time,
        }))
    }
}

impl Collection {
    /// The next of those that nothing referred to, of one kind and at most so many, for [`Collection::remove`]; none
    /// at the end.
    pub fn next_piece(&mut self, most: usize) -> Vec<Node> {
        let Some(kind) = self.waiting.front().map(|first| first.kind) else { return Vec::new() };
        let of_kind = self.waiting.iter().take(most).take_while(|node| node.kind == kind);
        let count = of_kind.count();
        self.waiting.drain(..count).collect()
    }

    /// Removes the records of those that nothing refers to still; tells which.
    ///
    /// # Errors
    /// As all calls; and after that each time [`StoreError::Closed`]. So, too, if the call was not waited for.
    pub async fn remove(&mut self, nodes: Vec<Node>) -> Result<Vec<Removed>, StoreError> {
        let Some(graph) = self.graph.take() else { return Err(StoreError::Closed) };
        let change = move |transaction: &_| remove(transaction, graph, nodes);
        let (graph, removed, is_any_kept) = self.store.0.write(0, change).await?;
        self.graph = Some(graph);
        self.is_any_kept |= is_any_kept;
        Ok(removed)
    }

    /// Ends it. Whether another one may find something that was kept because it was written meanwhile.
    ///
    /// # Errors
    /// As all calls.
    pub async fn end(self) -> Result<bool, StoreError> {
        self.store.0.write(0, changes::end).await?;
        Ok(self.is_any_kept)
    }
}

fn remove(
    transaction: &WriteTransaction,
    mut graph: Graph,
    mut nodes: Vec<Node>,
) -> Attempt<(Graph, Vec<Removed>, bool)> {
    for node in changes::take(transaction)? {
        let references = read::references(transaction, &node)?;
        graph.keep_changed(node, references);
    }
    let count = nodes.len();
    nodes.retain(|node| graph.reach(node) == Reach::Not);
    let is_any_kept = nodes.len() < count;
    let mut removed = Vec::new();
    for node in nodes {
        match remove_one(transaction, node) {
            Ok(one) => removed.push(one),
            // It is gone already, or has a child that could not be removed.
            Err(Failure::Answer(StoreError::NotFound(_) | StoreError::FailedPrecondition(_))) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok((graph, removed, is_any_kept))
}

fn remove_one(transaction: &WriteTransaction, node: Node) -> Attempt<Removed> {
    let Node { kind, namespace, key } = node;
    let damaged = |reason| StoreError::Damaged { what: format!("{} {key:?}", kind.name()), reason };
    let namespace =
        Namespace::from_record(&namespace).ok_or_else(|| damaged("it has no such namespace"))?;
    match kind {
        NodeKind::Blob => {
            let digest = Digest::parse(&key).map_err(damaged)?;
            let is_last = content::delete_blob(transaction, &namespace, &digest, None)?;
            Ok(Removed::Blob { namespace, digest, is_last })
        }
        NodeKind::Ingest => {
            content::delete_ingest(transaction, &namespace, &key)?;
            Ok(Removed::Ingest { namespace, reference: key })
        }
        NodeKind::Image => {
            images::delete(transaction, &namespace, &key, None, None)?;
            Ok(Removed::Image { namespace, name: key })
        }
        // They are not among those that can be removed.
        NodeKind::Container => Err(damaged("it cannot be removed").into()),
        NodeKind::Snapshot => {
            let (snapshotter, key) =
                key.split_once('/').ok_or_else(|| damaged("it has no snapshotter"))?;
            let (snapshotter, key) = (snapshotter.to_owned(), key.to_owned());
            let found =
                snapshots::changes::remove(transaction, &namespace, &snapshotter, &key, None)?;
            Ok(Removed::Snapshot { namespace, snapshotter, key, directory: found.directory })
        }
    }
}
