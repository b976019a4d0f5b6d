//! Operations on writes under way.

use std::{borrow::Cow, time::SystemTime};

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{Beginning, INGEST_RESOURCE, Ingest, IngestPage, NewIngest, blobs};
use crate::{
    NodeKind, StoreError, codec, collection,
    filter::{self, Filters},
    leases,
    tables::{self, Attempt, INGESTS, PAGE_BYTES},
};

pub(super) fn get(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    reference: &str,
) -> Attempt<Ingest> {
    match tables::record(transaction, INGESTS, (namespace.as_str(), reference))? {
        Some(record) => decode(namespace, reference, &record),
        None => Err(unknown(reference).into()),
    }
}

pub(super) fn list(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<IngestPage> {
    let table = transaction.open_table(INGESTS)?;
    let (ingests, after) =
        tables::page(&table, namespace, after, PAGE_BYTES, |reference, record| {
            let ingest = decode(namespace, reference, record)?;
            Ok(Some(ingest).filter(|ingest| filters.matches(&|path| field(ingest, path))))
        })?;
    Ok(IngestPage { ingests, after })
}

/// Begins a write, or continues one, unless the blob is there.
pub(super) fn begin(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: &NewIngest,
) -> Attempt<Beginning> {
    let NewIngest { reference, expected, lease, .. } = new;
    leases::require_named(transaction, namespace, lease.as_deref())?;
    let mut shared = None;
    if let Some(digest) = expected {
        if blobs::lease(transaction, namespace, digest, lease.as_deref())? {
            return Ok(Beginning::Exists);
        }
        let size = blobs::file(transaction, digest)?.map(|(size, _)| size);
        shared = size.filter(|size| new.total == 0 || new.total == *size);
    }
    let mut table = transaction.open_table(INGESTS)?;
    let key = (namespace.as_str(), reference.as_str());
    let found = table.get(key)?.map(|record| decode(namespace, reference, record.value()));
    let found = found.transpose()?;
    // The caller that began it said something else. Of a blob that is shared, the size is not the caller's.
    if let Some(found) = &found
        && !found.is_shared
        && ![0, new.total].contains(&found.total)
        && new.total > 0
    {
        let message =
            format!("provided total differs from status: {} != {}", new.total, found.total);
        return Err(StoreError::FailedPrecondition(message).into());
    }
    // What is said when it begins stays, as in containerd.
    let said = found.as_ref().filter(|found| !found.is_shared).map(|found| found.total);
    let ingest = Ingest {
        reference: reference.clone(),
        started_at: found.as_ref().map_or_else(SystemTime::now, |found| found.started_at),
        total: shared.or(said).unwrap_or(new.total),
        expected: expected.clone(),
        is_shared: shared.is_some(),
        expires_at: match lease {
            Some(_) => found.as_ref().and_then(|found| found.expires_at),
            None => Some(new.expires_at),
        },
        lease: lease.clone().or(found.map(|found| found.lease)).unwrap_or_default(),
    };
    tables::touch(transaction, namespace)?;
    table.insert(key, &*codec::encode_ingest(&ingest))?;
    collection::note(transaction, NodeKind::Ingest, namespace.as_str(), reference)?;
    leases::add(transaction, namespace, lease.as_deref(), INGEST_RESOURCE, reference)?;
    Ok(Beginning::Begun(ingest))
}

/// Forgets it; its lease does, too.
pub(crate) fn delete(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    reference: &str,
) -> Attempt<()> {
    let mut table = transaction.open_table(INGESTS)?;
    let key = (namespace.as_str(), reference);
    let found = table.get(key)?.map(|record| decode(namespace, reference, record.value()));
    let Ingest { lease, .. } = found.ok_or_else(|| unknown(reference))??;
    table.remove(key)?;
    leases::forget(transaction, namespace, Some(&lease), INGEST_RESOURCE, reference)
}

/// What `name` makes of each, of all namespaces.
pub(super) fn names<T>(
    transaction: &ReadTransaction,
    name: impl Fn(&str, &str) -> T,
) -> Attempt<Vec<T>> {
    let mut names = Vec::new();
    for entry in transaction.open_table(INGESTS)?.iter()? {
        let (key, _) = entry?;
        let (namespace, reference) = key.value();
        names.push(name(namespace, reference));
    }
    Ok(names)
}

fn unknown(reference: &str) -> StoreError {
    StoreError::NotFound(format!("reference {reference}"))
}

fn decode(namespace: &Namespace, reference: &str, record: &[u8]) -> Attempt<Ingest> {
    let what = || format!("ingest {reference:?} in namespace {:?}", namespace.name());
    tables::decoded(what, codec::decode_ingest(reference, record))
}

/// The fields by which they are listed.
fn field<'a>(ingest: &'a Ingest, path: &[String]) -> Option<Cow<'a, str>> {
    match path[0].as_str() {
        "ref" => filter::field(&ingest.reference),
        _ => None,
    }
}
