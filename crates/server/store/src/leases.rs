//! Operations on leases.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::{
    Labels, Lease, Resource, StoreError, codec, collection,
    filter::{self, Filters},
    tables::{self, Attempt, LEASES, Next, PAGE_BYTES, RESOURCES},
};

/// A part of a list, in the order of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeasePage {
    /// Those that match; may be empty though there is a next page.
    pub leases: Vec<Lease>,
    /// After which id the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}

/// A part of what a lease keeps, in the order of kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcePage {
    /// Not empty if there is a next page.
    pub resources: Vec<Resource>,
    /// After which one the next page begins. `None` at the end of the list.
    pub after: Option<Resource>,
}

pub(crate) fn create(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    id: String,
    mut labels: Labels,
) -> Attempt<Lease> {
    labels.retain(|_, value| !value.is_empty());
    let mut table = transaction.open_table(LEASES)?;
    let created_at = SystemTime::now();
    let id = if id.is_empty() { free_id(&table, namespace, created_at)? } else { id };
    let key = (namespace.as_str(), id.as_str());
    if table.get(key)?.is_some() {
        return Err(StoreError::AlreadyExists(shown(&id)).into());
    }
    tables::touch(transaction, namespace)?;
    let lease = Lease { id: id.clone(), labels, created_at };
    table.insert(key, &*codec::encode_lease(&lease))?;
    Ok(lease)
}

/// An id after the time, which no other lease has.
fn free_id(
    table: &impl ReadableTable<tables::Key, &'static [u8]>,
    namespace: &Namespace,
    now: SystemTime,
) -> Attempt<String> {
    let mut number = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    loop {
        let id = format!("lease-{number}");
        if table.get((namespace.as_str(), id.as_str()))?.is_none() {
            return Ok(id);
        }
        number += 1;
    }
}

pub(crate) fn list(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<LeasePage> {
    let table = transaction.open_table(LEASES)?;
    let (leases, after) = tables::page(&table, namespace, after, PAGE_BYTES, |id, record| {
        let lease = decode(namespace, id, record)?;
        Ok(Some(lease).filter(|lease| filters.matches(&|path| field(lease, path))))
    })?;
    Ok(LeasePage { leases, after })
}

/// Deletes it and forgets its resources.
pub(crate) fn delete(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    id: &str,
) -> Attempt<()> {
    let was_there = transaction.open_table(LEASES)?.remove((namespace.as_str(), id))?.is_some();
    if !was_there {
        return Err(StoreError::NotFound(shown(id)).into());
    }
    let mut table = transaction.open_table(RESOURCES)?;
    let all = resources_in(&table, namespace, id, None, usize::MAX)?;
    for Resource { kind, id: resource } in all.resources {
        table.remove((namespace.as_str(), id, kind.as_str(), resource.as_str()))?;
    }
    Ok(())
}

/// Deletes all of a namespace.
pub(crate) fn delete_all(transaction: &WriteTransaction, namespace: &Namespace) -> Attempt<()> {
    let mut ids = Vec::new();
    tables::scan(&transaction.open_table(LEASES)?, namespace, "", |id, _| {
        ids.push(id.to_owned());
        Ok(Next::Continue)
    })?;
    ids.iter().try_for_each(|id| delete(transaction, namespace, id))
}

/// When the first lease ends that does, of all namespaces.
pub(crate) fn first_end(transaction: &ReadTransaction) -> Attempt<Option<SystemTime>> {
    let leases = all(&transaction.open_table(LEASES)?)?;
    Ok(leases.iter().filter_map(|(_, lease)| lease.expires_at()).min())
}

/// Deletes those that have ended by `now`, in all namespaces; gives them.
pub(crate) fn expire(
    transaction: &WriteTransaction,
    now: SystemTime,
) -> Attempt<Vec<(Namespace, Lease)>> {
    let mut expired = all(&transaction.open_table(LEASES)?)?;
    expired.retain(|(_, lease)| lease.expires_at().is_some_and(|end| end <= now));
    for (namespace, lease) in &expired {
        delete(transaction, namespace, &lease.id)?;
    }
    Ok(expired)
}

/// The leases of all namespaces.
fn all(table: &impl ReadableTable<tables::Key, &'static [u8]>) -> Attempt<Vec<(Namespace, Lease)>> {
    let mut leases = Vec::new();
    tables::scan_all(table, "lease", |namespace, id, record| {
        let lease = decode(&namespace, id, record)?;
        leases.push((namespace, lease));
        Ok(Next::Continue)
    })?;
    Ok(leases)
}

pub(crate) fn add_resource(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    lease: &str,
    resource: &Resource,
) -> Attempt<()> {
    require(&transaction.open_table(LEASES)?, namespace, lease)?;
    add(transaction, namespace, Some(lease), &resource.kind, &resource.id)
}

/// One that the lease does not have is no error.
pub(crate) fn delete_resource(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    lease: &str,
    resource: &Resource,
) -> Attempt<()> {
    require(&transaction.open_table(LEASES)?, namespace, lease)?;
    forget(transaction, namespace, Some(lease), &resource.kind, &resource.id)
}

/// Has a lease keep something, if a call names one, which is there.
pub(crate) fn add(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    lease: Option<&str>,
    kind: &str,
    id: &str,
) -> Attempt<()> {
    if let Some(lease) = lease {
        transaction.open_table(RESOURCES)?.insert((namespace.as_str(), lease, kind, id), ())?;
        collection::note_resource(transaction, namespace.as_str(), kind, id)?;
    }
    Ok(())
}

/// Has a lease keep it no longer, if a call names one, which need not be there.
pub(crate) fn forget(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    lease: Option<&str>,
    kind: &str,
    id: &str,
) -> Attempt<()> {
    if let Some(lease) = lease {
        transaction.open_table(RESOURCES)?.remove((namespace.as_str(), lease, kind, id))?;
    }
    Ok(())
}

pub(crate) fn resources(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    lease: &str,
    after: Option<&Resource>,
) -> Attempt<ResourcePage> {
    require(&transaction.open_table(LEASES)?, namespace, lease)?;
    resources_in(&transaction.open_table(RESOURCES)?, namespace, lease, after, PAGE_BYTES)
}

fn resources_in(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str, &'static str), ()>,
    namespace: &Namespace,
    lease: &str,
    after: Option<&Resource>,
    most_bytes: usize,
) -> Attempt<ResourcePage> {
    let (mut page, mut bytes) = (ResourcePage::default(), 0);
    // The smallest text that is greater.
    let first = after.map(|after| format!("{}\0", after.id)).unwrap_or_default();
    let first_kind = after.map_or("", |after| &after.kind);
    for entry in table.range((namespace.as_str(), lease, first_kind, first.as_str())..)? {
        let (key, _) = entry?;
        let (in_namespace, of, kind, id) = key.value();
        if (in_namespace, of) != (namespace.as_str(), lease) {
            break;
        }
        bytes += kind.len() + id.len();
        page.resources.push(Resource { kind: kind.to_owned(), id: id.to_owned() });
        if bytes >= most_bytes {
            page.after = page.resources.last().cloned();
            break;
        }
    }
    Ok(page)
}

pub(crate) fn require(
    table: &impl ReadableTable<tables::Key, &'static [u8]>,
    namespace: &Namespace,
    lease: &str,
) -> Attempt<()> {
    let is_there = table.get((namespace.as_str(), lease))?.is_some();
    if is_there { Ok(()) } else { Err(StoreError::NotFound(shown(lease)).into()) }
}

/// Refuses a lease that a call names and that is not there.
pub(crate) fn require_named(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    lease: Option<&str>,
) -> Attempt<()> {
    let Some(lease) = lease else { return Ok(()) };
    let found = require(&transaction.open_table(LEASES)?, namespace, lease);
    found.map_err(|failure| match failure {
        // In containerd's words.
        tables::Failure::Answer(StoreError::NotFound(_)) => {
            StoreError::NotFound("lease does not exist".to_owned()).into()
        }
        other => other,
    })
}

fn shown(id: &str) -> String {
    format!("lease {id:?}")
}

fn decode(namespace: &Namespace, id: &str, record: &[u8]) -> Attempt<Lease> {
    let what = || format!("lease {id:?} in namespace {:?}", namespace.name());
    tables::decoded(what, codec::decode_lease(id, record))
}

/// The fields by which leases are listed.
fn field<'a>(lease: &'a Lease, path: &[String]) -> Option<Cow<'a, str>> {
    match path[0].as_str() {
        "id" => filter::field(&lease.id),
        "labels" => filter::label(&lease.labels, &path[1..]),
        _ => None,
    }
}
