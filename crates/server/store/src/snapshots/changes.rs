//! Operations that change something.

use std::time::SystemTime;

use gantry_domain::Namespace;
use redb::{ReadableTable, WriteTransaction};

use super::{
    CommittedSnapshot, NewSnapshot, Snapshot, SnapshotKind, SnapshotUsage,
    query::{self, LAST_DIRECTORY, found, shown},
    record,
};
use crate::{
    Labels, NodeKind, StoreError, collection, leases, mask,
    tables::{self, ABOUT, Attempt, SNAPSHOT_CHILDREN, SNAPSHOTS},
    validate,
};

/// Adds one whose directory is made, on top of `below`: the directory of its parent when that was made.
pub(super) fn add(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: &NewSnapshot,
    directory: u64,
    below: Option<u64>,
) -> Attempt<Snapshot> {
    let NewSnapshot { snapshotter, key, parent, is_view, labels, lease } = new;
    leases::require_named(transaction, namespace, lease.as_deref())?;
    let mut table = transaction.open_table(SNAPSHOTS)?;
    query::require_addable(&table, namespace, new)?;
    let mut children = transaction.open_table(SNAPSHOT_CHILDREN)?;
    if !parent.is_empty() {
        let same = found(&table, namespace, snapshotter, parent)?;
        // The one that was there is gone, and another one has its name.
        if below != Some(same.directory) {
            return Err(query::no_parent(parent).into());
        }
        children.insert((namespace.as_str(), &**snapshotter, &**parent, &**key), ())?;
    }
    tables::touch(transaction, namespace)?;
    let mut labels = labels.clone();
    labels.retain(|_, value| !value.is_empty());
    let now = SystemTime::now();
    let snapshot = Snapshot {
        key: key.clone(),
        kind: if *is_view { SnapshotKind::View } else { SnapshotKind::Active },
        parent: parent.clone(),
        labels,
        created_at: now,
        updated_at: now,
        directory,
        usage: SnapshotUsage::default(),
    };
    let name = (namespace.as_str(), &**snapshotter, &**key);
    table.insert(name, &*record::encode(&snapshot))?;
    let mut about = transaction.open_table(ABOUT)?;
    let last = about.get(LAST_DIRECTORY)?.map(|last| last.value()).unwrap_or_default();
    about.insert(LAST_DIRECTORY, last.max(directory))?;
    note(transaction, namespace, snapshotter, key)?;
    leases::add(transaction, namespace, lease.as_deref(), &resource(snapshotter), key)?;
    Ok(snapshot)
}

/// Whether there is such a snapshot. If so, the lease keeps it from now on.
pub(super) fn lease(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
    lease: &str,
) -> Attempt<bool> {
    let table = transaction.open_table(SNAPSHOTS)?;
    if query::find(&table, namespace, snapshotter, key)?.is_none() {
        return Ok(false);
    }
    leases::require_named(transaction, namespace, Some(lease))?;
    leases::add(transaction, namespace, Some(lease), &resource(snapshotter), key)?;
    Ok(true)
}

/// Makes an active one a committed one of another name; gives it.
pub(super) fn commit(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    committed: &CommittedSnapshot,
) -> Attempt<Snapshot> {
    let CommittedSnapshot { snapshotter, key, directory, name, labels, usage, lease } = committed;
    leases::require_named(transaction, namespace, lease.as_deref())?;
    let mut table = transaction.open_table(SNAPSHOTS)?;
    let active = committable(&table, namespace, snapshotter, key, name)?;
    if active.directory != *directory {
        return Err(query::unknown(key).into());
    }
    let mut labels = labels.clone();
    labels.retain(|_, value| !value.is_empty());
    let now = SystemTime::now();
    let snapshot = Snapshot {
        key: name.clone(),
        kind: SnapshotKind::Committed,
        labels,
        created_at: now,
        updated_at: now,
        usage: *usage,
        ..active
    };
    let parent = snapshot.parent.as_str();
    if !parent.is_empty() {
        let mut children = transaction.open_table(SNAPSHOT_CHILDREN)?;
        children.remove((namespace.as_str(), &**snapshotter, parent, &**key))?;
        children.insert((namespace.as_str(), &**snapshotter, parent, &**name), ())?;
    }
    table.remove((namespace.as_str(), &**snapshotter, &**key))?;
    let to = (namespace.as_str(), &**snapshotter, &**name);
    table.insert(to, &*record::encode(&snapshot))?;
    note(transaction, namespace, snapshotter, name)?;
    let kind = resource(snapshotter);
    leases::forget(transaction, namespace, lease.as_deref(), &kind, key)?;
    leases::add(transaction, namespace, lease.as_deref(), &kind, name)?;
    Ok(snapshot)
}

/// The active snapshot that can be committed under this name.
pub(super) fn committable(
    table: &impl ReadableTable<tables::SnapshotKey, &'static [u8]>,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
    name: &str,
) -> Attempt<Snapshot> {
    if key != name && query::find(table, namespace, snapshotter, name)?.is_some() {
        return Err(query::taken(name).into());
    }
    let snapshot = found(table, namespace, snapshotter, key)?;
    if snapshot.kind != SnapshotKind::Active {
        let shown = shown(namespace, &snapshot);
        let message = format!("failed to commit snapshot: snapshot {shown:?} is not active");
        return Err(StoreError::FailedPrecondition(message).into());
    }
    if key == name {
        return Err(query::taken(name).into());
    }
    Ok(snapshot)
}

/// Removes one that no other was made on; gives it, as its directory is nobody's now.
pub(crate) fn remove(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
    lease: Option<&str>,
) -> Attempt<Snapshot> {
    let mut table = transaction.open_table(SNAPSHOTS)?;
    let snapshot = found(&table, namespace, snapshotter, key)?;
    let mut children = transaction.open_table(SNAPSHOT_CHILDREN)?;
    if query::has_child(&children, namespace, snapshotter, key)? {
        let message = "cannot remove snapshot with child".to_owned();
        return Err(StoreError::FailedPrecondition(message).into());
    }
    if !snapshot.parent.is_empty() {
        children.remove((namespace.as_str(), snapshotter, &*snapshot.parent, key))?;
    }
    table.remove((namespace.as_str(), snapshotter, key))?;
    leases::forget(transaction, namespace, lease, &resource(snapshotter), key)?;
    Ok(snapshot)
}

/// Sets labels: those that `mask` names, or all.
pub(super) fn update(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
    new: Labels,
    mask: &[String],
) -> Attempt<Snapshot> {
    let mut table = transaction.open_table(SNAPSHOTS)?;
    let mut snapshot = found(&table, namespace, snapshotter, key)?;
    // Nothing is taken out of `new` before all paths that name one of its labels were.
    for path in mask {
        if path == "labels" {
            snapshot.labels.clone_from(&new);
        } else if let Some(label) = path.strip_prefix("labels.") {
            mask::set_label(&mut snapshot.labels, &new, label);
        } else {
            let path = validate::beginning(path);
            let message = format!("cannot update {path:?} field on snapshot {key:?}");
            return Err(StoreError::invalid("update_mask", message).into());
        }
    }
    if mask.is_empty() {
        snapshot.labels = new;
    }
    snapshot.labels.retain(|_, value| !value.is_empty());
    validate::labels("info.labels", "info.Labels", &snapshot.labels)?;
    snapshot.updated_at = SystemTime::now();
    table.insert((namespace.as_str(), snapshotter, key), &*record::encode(&snapshot))?;
    note(transaction, namespace, snapshotter, key)?;
    Ok(snapshot)
}

/// Tells a collection that it was written.
fn note(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    snapshotter: &str,
    key: &str,
) -> Attempt<()> {
    let key = format!("{snapshotter}/{key}");
    collection::note(transaction, NodeKind::Snapshot, namespace.as_str(), &key)
}

/// What a snapshotter's snapshots are called as resources of a lease.
fn resource(snapshotter: &str) -> String {
    format!("snapshots/{snapshotter}")
}
