//! What is written while a collection is under way.

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::node::{Node, NodeKind};
use crate::{
    StoreError,
    tables::{Attempt, COLLECTION},
};

/// The key that is there as long as changes are noted. No node has it.
const NOTED: (&str, &str, &str) = ("", "", "");

/// Notes, if a collection is under way, that a node was written, or has come to be a root. To be called by all that
/// writes the record of a node, or has a lease keep one.
pub(crate) fn note(
    transaction: &WriteTransaction,
    kind: NodeKind,
    namespace: &str,
    key: &str,
) -> Attempt<()> {
    let mut table = transaction.open_table(COLLECTION)?;
    if table.get(NOTED)?.is_some() {
        table.insert((namespace, kind.name(), key), ())?;
    }
    Ok(())
}

/// The same, of a resource of a lease.
pub(crate) fn note_resource(
    transaction: &WriteTransaction,
    namespace: &str,
    kind: &str,
    key: &str,
) -> Attempt<()> {
    match Node::of_resource(namespace, kind, key) {
        Some(node) => note(transaction, node.kind, namespace, &node.key),
        None => Ok(()),
    }
}

/// Whether a collection was not done to its end.
pub(super) fn are_noted(transaction: &ReadTransaction) -> Attempt<bool> {
    Ok(transaction.open_table(COLLECTION)?.get(NOTED)?.is_some())
}

/// From now on changes are noted.
pub(super) fn begin(transaction: &WriteTransaction) -> Attempt<()> {
    end(transaction)?;
    transaction.open_table(COLLECTION)?.insert(NOTED, ())?;
    Ok(())
}

/// What was noted since the last call.
pub(super) fn take(transaction: &WriteTransaction) -> Attempt<Vec<Node>> {
    let mut table = transaction.open_table(COLLECTION)?;
    let mut nodes = Vec::new();
    for entry in table.iter()? {
        let (entry, ()) = entry.map(|(key, value)| (key, value.value()))?;
        let (namespace, kind, key) = entry.value();
        if (namespace, kind, key) == NOTED {
            continue;
        }
        let Some(kind) = NodeKind::named(kind) else {
            let what = format!("the change of {key:?} in namespace {namespace:?}");
            return Err(StoreError::Damaged { what, reason: "it has no such kind" }.into());
        };
        nodes.push(Node::new(kind, namespace, key));
    }
    for node in &nodes {
        table.remove((node.namespace.as_str(), node.kind.name(), node.key.as_str()))?;
    }
    Ok(nodes)
}

/// From now on no changes are noted.
pub(super) fn end(transaction: &WriteTransaction) -> Attempt<()> {
    transaction.open_table(COLLECTION)?.retain(|_, ()| false)?;
    Ok(())
}
