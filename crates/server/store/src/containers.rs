//! Operations on containers.

use std::{borrow::Cow, time::SystemTime};

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::{
    Container, NodeKind, StoreError, codec, collection,
    filter::{self, Filters},
    mask,
    tables::{self, Attempt, CONTAINERS},
    validate,
};

/// A page of a list ends when so many bytes of records were listed.
const PAGE_BYTES: usize = 1 << 20;

/// A part of a list, in the order of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerPage {
    /// Those that match; may be empty though there is a next page.
    pub containers: Vec<Container>,
    /// After which id the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}

pub(crate) fn create(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    mut container: Container,
) -> Attempt<Container> {
    container.labels.retain(|_, value| !value.is_empty());
    container.created_at = SystemTime::now();
    container.updated_at = container.created_at;
    let mut table = transaction.open_table(CONTAINERS)?;
    let key = (namespace.as_str(), container.id.as_str());
    if table.get(key)?.is_some() {
        return Err(StoreError::AlreadyExists(format!("container {:?}", container.id)).into());
    }
    tables::touch(transaction, namespace)?;
    table.insert(key, &*codec::encode_container(&container))?;
    collection::note(transaction, NodeKind::Container, namespace.as_str(), &container.id)?;
    Ok(container)
}

pub(crate) fn get(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    id: &str,
) -> Attempt<Container> {
    let Some(record) = tables::record(transaction, CONTAINERS, (namespace.as_str(), id))? else {
        let what = format!("container {id:?} in namespace {:?}", namespace.name());
        return Err(StoreError::NotFound(what).into());
    };
    decode(namespace, id, &record)
}

pub(crate) fn page(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<ContainerPage> {
    let table = transaction.open_table(CONTAINERS)?;
    let (containers, after) = tables::page(&table, namespace, after, PAGE_BYTES, |id, record| {
        let container = decode(namespace, id, record)?;
        Ok(Some(container).filter(|container| filters.matches(&|path| field(container, path))))
    })?;
    Ok(ContainerPage { containers, after })
}

pub(crate) fn update(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: Container,
    mask: &[String],
) -> Attempt<Container> {
    let mut table = transaction.open_table(CONTAINERS)?;
    let id = new.id.clone();
    let key = (namespace.as_str(), id.as_str());
    let found = table.get(key)?.map(|record| decode(namespace, &id, record.value()));
    let Some(found) = found else {
        return Err(StoreError::NotFound(format!("container {id:?}")).into());
    };
    let mut container = found?;
    mask::apply(&mut container, new, mask)?;
    validate::container("update failed validation", &container)?;
    container.updated_at = SystemTime::now();
    table.insert(key, &*codec::encode_container(&container))?;
    collection::note(transaction, NodeKind::Container, namespace.as_str(), &container.id)?;
    Ok(container)
}

pub(crate) fn delete(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    id: &str,
) -> Attempt<()> {
    let mut table = transaction.open_table(CONTAINERS)?;
    let was_there = table.remove((namespace.as_str(), id))?.is_some();
    if was_there { Ok(()) } else { Err(StoreError::NotFound(format!("container {id}")).into()) }
}

fn decode(namespace: &Namespace, id: &str, record: &[u8]) -> Attempt<Container> {
    let what = || format!("container {id:?} in namespace {:?}", namespace.name());
    tables::decoded(what, codec::decode_container(id, record))
}

/// The fields by which containers are listed.
fn field<'a>(container: &'a Container, path: &[String]) -> Option<Cow<'a, str>> {
    match (path[0].as_str(), path.get(1).map(String::as_str)) {
        ("id", _) => filter::field(&container.id),
        ("image", _) => filter::field(&container.image),
        ("runtime", Some("name")) => filter::field(&container.runtime.name),
        ("labels", _) => filter::label(&container.labels, &path[1..]),
        _ => None,
    }
}
