//! Operations on namespaces.

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::{
    Labels, StoreError, codec, leases, mask,
    tables::{self, Attempt, BLOBS, CONTAINERS, IMAGES, NAMESPACES, Next, SNAPSHOTS},
    validate,
};

pub(crate) fn create(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    mut labels: Labels,
) -> Attempt<Labels> {
    labels.retain(|_, value| !value.is_empty());
    let mut table = transaction.open_table(NAMESPACES)?;
    if table.get(namespace.as_str())?.is_some() {
        return Err(StoreError::AlreadyExists(shown(namespace)).into());
    }
    table.insert(namespace.as_str(), &*codec::encode_labels(&labels))?;
    Ok(labels)
}

pub(crate) fn labels(transaction: &ReadTransaction, namespace: &Namespace) -> Attempt<Labels> {
    let table = transaction.open_table(NAMESPACES)?;
    match table.get(namespace.as_str())? {
        Some(record) => decode(namespace.name(), record.value()),
        None => Ok(Labels::new()),
    }
}

pub(crate) fn list(transaction: &ReadTransaction) -> Attempt<Vec<(Namespace, Labels)>> {
    let table = transaction.open_table(NAMESPACES)?;
    let mut namespaces = Vec::new();
    for entry in table.iter()? {
        let (name, record) = entry?;
        let what = || format!("namespace {:?}", name.value());
        let namespace = Namespace::from_record(name.value()).ok_or("it has no such name");
        let namespace = tables::decoded(what, namespace)?;
        namespaces.push((namespace, decode(name.value(), record.value())?));
    }
    Ok(namespaces)
}

pub(crate) fn update(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: &Labels,
    mask: &[String],
) -> Attempt<Labels> {
    let mut table = transaction.open_table(NAMESPACES)?;
    let stored = table.get(namespace.as_str())?;
    let mut labels = match &stored {
        Some(record) => decode(namespace.name(), record.value())?,
        None => Labels::new(),
    };
    drop(stored);
    if mask.is_empty() || mask.iter().any(|path| path == "labels") {
        labels = new.clone();
        labels.retain(|_, value| !value.is_empty());
    }
    for path in mask.iter().filter(|path| *path != "labels") {
        let Some(key) = path.strip_prefix("labels.") else {
            let message = format!("cannot update {path:?} field");
            return Err(StoreError::invalid("update_mask", message).into());
        };
        mask::set_label(&mut labels, new, key);
    }
    validate::labels("namespace.labels", "namespace.Labels", &labels)?;
    table.insert(namespace.as_str(), &*codec::encode_labels(&labels))?;
    Ok(labels)
}

/// Its leases go with it. Writes under way stay until they are stale.
pub(crate) fn delete(transaction: &WriteTransaction, namespace: &Namespace) -> Attempt<()> {
    let mut table = transaction.open_table(NAMESPACES)?;
    if table.get(namespace.as_str())?.is_none() {
        return Err(StoreError::NotFound(shown(namespace)).into());
    }
    let mut kept = Vec::new();
    for (what, table) in [("images", IMAGES), ("blobs", BLOBS), ("containers", CONTAINERS)] {
        tables::scan(&transaction.open_table(table)?, namespace, "", |_, _| {
            kept.push(what.to_owned());
            Ok(Next::Stop)
        })?;
    }
    let (snapshots, mut from) = (transaction.open_table(SNAPSHOTS)?, String::new());
    while let Some(first) = snapshots.range((namespace.as_str(), &*from, "")..)?.next() {
        let (first, _) = first?;
        let (in_namespace, snapshotter, _) = first.value();
        if in_namespace != namespace.as_str() {
            break;
        }
        kept.push(format!("snapshots on {snapshotter:?} snapshotter"));
        // The smallest name that is greater.
        from = format!("{snapshotter}\0");
    }
    if !kept.is_empty() {
        let kept = kept.join(", ");
        let message = format!("{} must be empty, but it still has {kept}", shown(namespace));
        return Err(StoreError::FailedPrecondition(message).into());
    }
    leases::delete_all(transaction, namespace)?;
    table.remove(namespace.as_str())?;
    Ok(())
}

fn shown(namespace: &Namespace) -> String {
    format!("namespace {:?}", namespace.name())
}

fn decode(name: &str, record: &[u8]) -> Attempt<Labels> {
    tables::decoded(|| format!("namespace {name:?}"), codec::decode_labels(record))
}
