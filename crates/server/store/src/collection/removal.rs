//! A collection, piece by piece.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use gantry_domain::Namespace;
use redb::{ReadTransaction, WriteTransaction};
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
    now: SystemTime,
    /// None after a failure: what was noted until then may be taken, and is not in a graph.
    graph: Option<Graph>,
    waiting: VecDeque<Node>,
    changes: Changes,
    /// Whether one was kept that would be removed otherwise.
    is_any_kept: bool,
    /// Another one would take what is noted for this one.
    _one_at_a_time: OwnedMutexGuard<()>,
}

/// How the graph comes to know of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    /// It does not, and holds as long as nothing is: after so many steps it was read.
    Unnoted { steps: u64 },
    /// It is noted in the database.
    Noted,
    /// Nothing more is to be removed.
    Over,
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
        let steps = self.0.steps.count();
        let look =
            move |transaction: &_| Ok((mark(transaction, now)?, changes::are_noted(transaction)?));
        let ((graph, waiting), are_noted) = self.0.read(look).await?;
        if waiting.is_empty() {
            // Another server began a collection.
            if are_noted {
                self.0.write(0, changes::end).await?;
            }
            return Ok(None);
        }
        Ok(Some(Collection {
            store: self.clone(),
            now,
            graph: Some(graph),
            waiting,
            changes: Changes::Unnoted { steps },
            is_any_kept: false,
            _one_at_a_time: one_at_a_time,
        }))
    }
}

impl Collection {
    /// The next of those that nothing referred to, at most so many, for [`Collection::remove`]; none at the end.
    pub fn next_piece(&mut self, most: usize) -> Vec<Node> {
        let count = most.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// Removes the records of those that nothing refers to still, in one step; tells which.
    ///
    /// # Errors
    /// As all calls; and after that each time [`StoreError::Closed`]. So, too, if the call was not waited for.
    pub async fn remove(&mut self, mut nodes: Vec<Node>) -> Result<Vec<Removed>, StoreError> {
        let Some(mut graph) = self.graph.take() else { return Err(StoreError::Closed) };
        if let Changes::Unnoted { steps } = self.changes {
            let (now, is_last) = (self.store.0.steps.clone(), self.waiting.is_empty());
            let change = move |transaction: &_| {
                // What was noted for a collection that has failed is in the graph.
                changes::begin(transaction)?;
                if now.count() != steps {
                    return Ok(Err(nodes));
                }
                let removed = remove(transaction, graph, nodes)?;
                if is_last {
                    changes::end(transaction)?;
                }
                Ok(Ok(removed))
            };
            match self.store.0.write(0, change).await? {
                Ok(removed) => {
                    self.changes = if is_last { Changes::Over } else { Changes::Noted };
                    return Ok(self.went_on(removed));
                }
                Err(not_removed) => {
                    self.changes = Changes::Noted;
                    (graph, nodes) = self.mark_again(not_removed).await?;
                }
            }
        }
        let is_last = self.waiting.is_empty();
        let change = move |transaction: &_| {
            let removed = remove(transaction, graph, nodes)?;
            if is_last {
                changes::end(transaction)?;
            }
            Ok(removed)
        };
        let removed = self.store.0.write(0, change).await?;
        if is_last {
            self.changes = Changes::Over;
        }
        Ok(self.went_on(removed))
    }

    /// Something was written between the mark and the step from which on changes are noted. Gives the graph as it is now,
    /// and those of `nodes` that are the next ones to be removed; all others wait, so that the order is kept.
    async fn mark_again(&mut self, nodes: Vec<Node>) -> Result<(Graph, Vec<Node>), StoreError> {
        let now = self.now;
        let (graph, found) = self.store.0.read(move |transaction| mark(transaction, now)).await?;
        let asked: HashSet<Node> = nodes.into_iter().collect();
        self.waiting = found;
        let count = self.waiting.iter().take_while(|node| asked.contains(node)).count();
        Ok((graph, self.next_piece(count)))
    }

    fn went_on(
        &mut self,
        (graph, removed, is_any_kept): (Graph, Vec<Removed>, bool),
    ) -> Vec<Removed> {
        self.graph = Some(graph);
        self.is_any_kept |= is_any_kept;
        removed
    }

    /// Ends it. Whether another one may find something that was kept because it was written meanwhile.
    ///
    /// # Errors
    /// As all calls.
    pub async fn end(self) -> Result<bool, StoreError> {
        if self.changes == Changes::Noted {
            self.store.0.write(0, changes::end).await?;
        }
        Ok(self.is_any_kept)
    }
}

/// The graph, and what can be removed.
fn mark(transaction: &ReadTransaction, now: SystemTime) -> Attempt<(Graph, VecDeque<Node>)> {
    let graph = read::mark(transaction, now)?;
    let waiting = graph.removable().into();
    Ok((graph, waiting))
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
            // The records before it are removed in this transaction, and their caller has to know of them.
            Err(Failure::Answer(error)) => {
                tracing::warn!(%error, "a record that nothing refers to cannot be removed");
            }
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
