//! Operations on blobs.

use std::{borrow::Cow, time::SystemTime};

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{Blob, BlobPage, NewBlob, RESOURCE, ingests};
use crate::{
    Digest, Labels, NodeKind, StoreError, codec, collection,
    filter::{self, Filters},
    leases, mask,
    tables::{self, Attempt, BLOB_FILES, BLOB_OWNERS, BLOBS, PAGE_BYTES},
    validate,
};

pub(super) fn get(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    digest: &Digest,
) -> Attempt<Blob> {
    match tables::record(transaction, BLOBS, (namespace.as_str(), digest.as_str()))? {
        Some(record) => decode(namespace, digest.as_str(), &record),
        None => Err(unknown(digest).into()),
    }
}

pub(super) fn list(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<BlobPage> {
    let table = transaction.open_table(BLOBS)?;
    let (blobs, after) = tables::page(&table, namespace, after, PAGE_BYTES, |digest, record| {
        let blob = decode(namespace, digest, record)?;
        Ok(Some(blob).filter(|blob| filters.matches(&|path| field(blob, path))))
    })?;
    Ok(BlobPage { blobs, after })
}

/// Sets labels: those that `mask` names, or all.
pub(super) fn update(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    digest: &Digest,
    new: Labels,
    mask: &[String],
) -> Attempt<Blob> {
    let mut table = transaction.open_table(BLOBS)?;
    let key = (namespace.as_str(), digest.as_str());
    let found = table.get(key)?.map(|record| decode(namespace, digest.as_str(), record.value()));
    let mut blob = found.ok_or_else(|| unknown(digest))??;
    // Nothing is taken out of `new` before all paths that name one of its labels were.
    for path in mask {
        if path == "labels" {
            blob.labels.clone_from(&new);
        } else if let Some(key) = path.strip_prefix("labels.") {
            mask::set_label(&mut blob.labels, &new, key);
        } else {
            let message = format!(
                "cannot update {:?} field on content info {:?}",
                validate::beginning(path),
                digest.as_str()
            );
            return Err(StoreError::invalid("update_mask", message).into());
        }
    }
    if mask.is_empty() {
        blob.labels = new;
    }
    blob.labels.retain(|_, value| !value.is_empty());
    validate::labels("info.labels", "info.Labels", &blob.labels)?;
    blob.updated_at = SystemTime::now();
    table.insert(key, &*codec::encode_blob(&blob))?;
    collection::note(transaction, NodeKind::Blob, namespace.as_str(), digest.as_str())?;
    Ok(blob)
}

/// Turns a write into a blob. Whether it was made: the namespace may have it.
pub(super) fn commit(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: &NewBlob,
) -> Attempt<bool> {
    let NewBlob { reference, digest, size, lease, .. } = new;
    leases::require_named(transaction, namespace, lease.as_deref())?;
    let file = match new.checked {
        Some(epoch) => Some((*size, epoch)),
        None => file(transaction, digest)?,
    };
    let (size, checked) = file.ok_or_else(|| unknown(digest))?;
    ingests::delete(transaction, namespace, reference)?;
    leases::add(transaction, namespace, lease.as_deref(), RESOURCE, digest.as_str())?;
    transaction.open_table(BLOB_FILES)?.insert(digest.as_str(), (size, checked))?;
    let mut table = transaction.open_table(BLOBS)?;
    let key = (namespace.as_str(), digest.as_str());
    if table.get(key)?.is_some() {
        return Ok(false);
    }
    tables::touch(transaction, namespace)?;
    let mut labels = new.labels.clone();
    labels.retain(|_, value| !value.is_empty());
    let now = SystemTime::now();
    let blob = Blob { digest: digest.clone(), size, labels, created_at: now, updated_at: now };
    table.insert(key, &*codec::encode_blob(&blob))?;
    collection::note(transaction, NodeKind::Blob, namespace.as_str(), digest.as_str())?;
    transaction.open_table(BLOB_OWNERS)?.insert((digest.as_str(), namespace.as_str()), ())?;
    Ok(true)
}

/// Takes it out of a namespace; the lease keeps it no longer. Whether no other one has it, so that its file is nobody's.
pub(crate) fn delete(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    digest: &Digest,
    lease: Option<&str>,
) -> Attempt<bool> {
    let key = (namespace.as_str(), digest.as_str());
    if transaction.open_table(BLOBS)?.remove(key)?.is_none() {
        return Err(unknown(digest).into());
    }
    leases::forget(transaction, namespace, lease, RESOURCE, digest.as_str())?;
    let mut owners = transaction.open_table(BLOB_OWNERS)?;
    owners.remove((digest.as_str(), namespace.as_str()))?;
    let is_last = owners_in(&owners, digest.as_str())?.is_empty();
    if is_last {
        transaction.open_table(BLOB_FILES)?.remove(digest.as_str())?;
    }
    Ok(is_last)
}

/// Takes it out of all namespaces.
pub(super) fn drop_everywhere(transaction: &WriteTransaction, digest: &Digest) -> Attempt<()> {
    let mut owners = transaction.open_table(BLOB_OWNERS)?;
    let mut blobs = transaction.open_table(BLOBS)?;
    for owner in owners_in(&owners, digest.as_str())? {
        owners.remove((digest.as_str(), owner.as_str()))?;
        blobs.remove((owner.as_str(), digest.as_str()))?;
    }
    transaction.open_table(BLOB_FILES)?.remove(digest.as_str())?;
    Ok(())
}

/// The namespaces that have a blob.
pub(crate) fn owners_in(
    table: &impl ReadableTable<tables::Key, ()>,
    digest: &str,
) -> Attempt<Vec<String>> {
    let mut owners = Vec::new();
    for entry in table.range((digest, "")..)? {
        let (key, ()) = entry.map(|(key, value)| (key, value.value()))?;
        let (of, owner) = key.value();
        if of != digest {
            break;
        }
        owners.push(owner.to_owned());
    }
    Ok(owners)
}

/// Size of a file, and in which epoch it was known to be whole.
pub(super) fn file(transaction: &WriteTransaction, digest: &Digest) -> Attempt<Option<(u64, u64)>> {
    Ok(transaction.open_table(BLOB_FILES)?.get(digest.as_str())?.map(|file| file.value()))
}

/// Whether the namespace has it. If so, the lease keeps it from now on.
pub(super) fn lease(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    digest: &Digest,
    lease: Option<&str>,
) -> Attempt<bool> {
    leases::require_named(transaction, namespace, lease)?;
    let is_there = is_there(&transaction.open_table(BLOBS)?, namespace, digest)?;
    if is_there {
        leases::add(transaction, namespace, lease, RESOURCE, digest.as_str())?;
    }
    Ok(is_there)
}

/// Whether the namespace has it.
pub(super) fn is_there(
    table: &impl ReadableTable<tables::Key, &'static [u8]>,
    namespace: &Namespace,
    digest: &Digest,
) -> Attempt<bool> {
    Ok(table.get((namespace.as_str(), digest.as_str()))?.is_some())
}

fn unknown(digest: &Digest) -> StoreError {
    StoreError::NotFound(format!("content digest {digest}"))
}

fn decode(namespace: &Namespace, digest: &str, record: &[u8]) -> Attempt<Blob> {
    let what = || format!("content {digest} in namespace {:?}", namespace.name());
    tables::decoded(what, codec::decode_blob(digest, record))
}

/// The fields by which blobs are listed.
fn field<'a>(blob: &'a Blob, path: &[String]) -> Option<Cow<'a, str>> {
    match path[0].as_str() {
        "digest" => filter::field(blob.digest.as_str()),
        "labels" => filter::label(&blob.labels, &path[1..]),
        _ => None,
    }
}
