//! Operations that change nothing.

use std::borrow::Cow;

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, StorageError};

use super::{
    LABEL_TARGET, NewSnapshot, Snapshot, SnapshotChain, SnapshotKind, SnapshotPage, record,
};
use crate::{
    StoreError,
    filter::{self, Filters},
    tables::{ABOUT, Attempt, PAGE_BYTES, PAGE_SCANNED, SNAPSHOTS, SnapshotKey},
};

/// The greatest number that a directory has had, by this name.
pub(super) const LAST_DIRECTORY: &str = "snapshot-directory";

pub(super) fn get(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Attempt<Snapshot> {
    found(&transaction.open_table(SNAPSHOTS)?, namespace, snapshotter, key)
}

pub(super) fn chain(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Attempt<SnapshotChain> {
    let table = transaction.open_table(SNAPSHOTS)?;
    let snapshot = found(&table, namespace, snapshotter, key)?;
    let below = below(&table, namespace, snapshotter, &snapshot.parent)?;
    Ok(SnapshotChain { snapshot, below })
}

/// The directories of what a new one is made on, the nearest first, if it can be made.
pub(super) fn foundation(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    new: &NewSnapshot,
) -> Attempt<Vec<u64>> {
    let table = transaction.open_table(SNAPSHOTS)?;
    require_addable(&table, namespace, new)?;
    below(&table, namespace, &new.snapshotter, &new.parent)
}

/// Refuses a new one as containerd does, and in its order.
pub(super) fn require_addable(
    table: &impl ReadableTable<SnapshotKey, &'static [u8]>,
    namespace: &Namespace,
    new: &NewSnapshot,
) -> Attempt<()> {
    let NewSnapshot { snapshotter, key, parent, labels, .. } = new;
    let find = |key: &str| find(table, namespace, snapshotter, key);
    if let Some(target) = labels.get(LABEL_TARGET).filter(|target| !target.is_empty())
        && find(target)?.is_some()
    {
        return Err(StoreError::AlreadyExists(format!("target snapshot {target:?}")).into());
    }
    if find(key)?.is_some() {
        return Err(taken(key).into());
    }
    if parent.is_empty() {
        return Ok(());
    }
    let found = find(parent)?.ok_or_else(|| no_parent(parent))?;
    if found.kind != SnapshotKind::Committed {
        let shown = shown(namespace, &found);
        let message =
            format!("failed to create snapshot: parent {shown:?} is not committed snapshot");
        return Err(StoreError::invalid("parent", message).into());
    }
    Ok(())
}

/// The directories of a snapshot and of its parents.
fn below(
    table: &impl ReadableTable<SnapshotKey, &'static [u8]>,
    namespace: &Namespace,
    snapshotter: &str,
    nearest: &str,
) -> Attempt<Vec<u64>> {
    let (mut directories, mut key) = (Vec::new(), nearest.to_owned());
    // A parent was there before its children, and goes after them: there is no circle.
    while !key.is_empty() {
        let parent = find(table, namespace, snapshotter, &key)?.ok_or_else(|| no_parent(&key))?;
        directories.push(parent.directory);
        key = parent.parent;
    }
    Ok(directories)
}

pub(super) fn list(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<SnapshotPage> {
    let table = transaction.open_table(SNAPSHOTS)?;
    // The smallest text that is greater.
    let first = after.map(|after| format!("{after}\0")).unwrap_or_default();
    let (mut page, mut scanned, mut bytes) = (SnapshotPage::default(), 0, 0);
    for entry in table.range((namespace.as_str(), snapshotter, first.as_str())..)? {
        let (entry, record) = entry?;
        let (in_namespace, of, key) = entry.value();
        if (in_namespace, of) != (namespace.as_str(), snapshotter) {
            break;
        }
        let snapshot = record::decode(namespace.as_str(), key, record.value())?;
        scanned += 1;
        if filters.matches(&|path| field(&snapshot, path)) {
            bytes += key.len() + record.value().len();
            page.snapshots.push(snapshot);
        }
        if bytes >= PAGE_BYTES || scanned == PAGE_SCANNED {
            page.after = Some(key.to_owned());
            break;
        }
    }
    Ok(page)
}

/// Calls `each` with namespace, snapshotter and record of all snapshots there are.
pub(crate) fn each(
    transaction: &ReadTransaction,
    mut each: impl FnMut(&str, &str, Snapshot) -> Attempt<()>,
) -> Attempt<()> {
    for entry in transaction.open_table(SNAPSHOTS)?.iter()? {
        let (entry, record) = entry?;
        let (namespace, snapshotter, key) = entry.value();
        each(namespace, snapshotter, record::decode(namespace, key, record.value())?)?;
    }
    Ok(())
}

/// The numbers of all directories of a snapshotter.
pub(super) fn directories(transaction: &ReadTransaction, snapshotter: &str) -> Attempt<Vec<u64>> {
    let mut directories = Vec::new();
    each(transaction, |_, of, snapshot| {
        if of == snapshotter {
            directories.push(snapshot.directory);
        }
        Ok(())
    })?;
    Ok(directories)
}

/// The greatest number that a directory of any snapshotter has had.
pub(super) fn last_directory(transaction: &ReadTransaction) -> Attempt<u64> {
    let last = transaction.open_table(ABOUT)?.get(LAST_DIRECTORY)?;
    Ok(last.map(|last| last.value()).unwrap_or_default())
}

pub(super) fn find(
    table: &impl ReadableTable<SnapshotKey, &'static [u8]>,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Attempt<Option<Snapshot>> {
    let record = table.get((namespace.as_str(), snapshotter, key))?;
    record.map(|record| record::decode(namespace.as_str(), key, record.value())).transpose()
}

pub(super) fn found(
    table: &impl ReadableTable<SnapshotKey, &'static [u8]>,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Attempt<Snapshot> {
    find(table, namespace, snapshotter, key)?.ok_or_else(|| unknown(key).into())
}

/// Whether another snapshot was made on it.
pub(super) fn has_child(
    children: &impl ReadableTable<(&'static str, &'static str, &'static str, &'static str), ()>,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Result<bool, StorageError> {
    let mut entries = children.range((namespace.as_str(), snapshotter, key, "")..)?;
    let Some(first) = entries.next().transpose()? else { return Ok(false) };
    let (in_namespace, of, parent, _) = first.0.value();
    Ok((in_namespace, of, parent) == (namespace.as_str(), snapshotter, key))
}

pub(super) fn unknown(key: &str) -> StoreError {
    StoreError::NotFound(format!("snapshot {key} does not exist"))
}

pub(super) fn no_parent(key: &str) -> StoreError {
    StoreError::NotFound(format!("parent snapshot {key} does not exist"))
}

pub(super) fn taken(key: &str) -> StoreError {
    StoreError::AlreadyExists(format!("snapshot {key:?}"))
}

/// A snapshot as errors have it that containerd's snapshotters make, which have one name space for all.
pub(super) fn shown(namespace: &Namespace, snapshot: &Snapshot) -> String {
    format!("{}/{}/{}", namespace.name(), snapshot.directory, snapshot.key)
}

/// The fields by which snapshots are listed.
fn field<'a>(snapshot: &'a Snapshot, path: &[String]) -> Option<Cow<'a, str>> {
    match path[0].as_str() {
        "kind" => filter::field(snapshot.kind.name()),
        "name" => filter::field(&snapshot.key),
        "parent" => filter::field(&snapshot.parent),
        "labels" => filter::label(&snapshot.labels, &path[1..]),
        _ => None,
    }
}
