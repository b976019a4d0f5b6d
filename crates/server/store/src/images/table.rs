//! Operations on images.

use std::{borrow::Cow, time::SystemTime};

use gantry_domain::Namespace;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{Image, ImagePage, changes, record};
use crate::{
    LABEL_EXPIRE, NodeKind, StoreError, collection,
    filter::{self, Filters},
    leases,
    tables::{self, Attempt, IMAGES, PAGE_BYTES},
};

/// What images are called as resources of a lease.
const RESOURCE: &str = "images";

pub(super) fn create(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    mut image: Image,
    lease: Option<&str>,
    at: Option<SystemTime>,
) -> Attempt<Image> {
    let lease = lease_that_keeps(transaction, namespace, &image, lease)?;
    let mut table = transaction.open_table(IMAGES)?;
    let key = (namespace.as_str(), image.name.as_str());
    if table.get(key)?.is_some() {
        return Err(StoreError::AlreadyExists(shown(&image.name)).into());
    }
    leases::add(transaction, namespace, lease, RESOURCE, &image.name)?;
    tables::touch(transaction, namespace)?;
    changes::drop_empty(&mut image);
    image.created_at = at.unwrap_or_else(SystemTime::now);
    image.updated_at = image.created_at;
    table.insert((namespace.as_str(), image.name.as_str()), &*record::encode(&image))?;
    collection::note(transaction, NodeKind::Image, namespace.as_str(), &image.name)?;
    Ok(image)
}

pub(super) fn get(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    name: &str,
) -> Attempt<Image> {
    match tables::record(transaction, IMAGES, (namespace.as_str(), name))? {
        Some(record) => decode(namespace, name, &record),
        None => Err(unknown(name).into()),
    }
}

pub(super) fn list(
    transaction: &ReadTransaction,
    namespace: &Namespace,
    filters: &Filters,
    after: Option<&str>,
) -> Attempt<ImagePage> {
    let table = transaction.open_table(IMAGES)?;
    let (images, after) = tables::page(&table, namespace, after, PAGE_BYTES, |name, record| {
        let image = decode(namespace, name, record)?;
        Ok(Some(image).filter(|image| filters.matches(&|path| field(image, path))))
    })?;
    Ok(ImagePage { images, after })
}

pub(super) fn update(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    new: Image,
    mask: &[String],
    lease: Option<&str>,
    at: Option<SystemTime>,
) -> Attempt<Image> {
    let mut table = transaction.open_table(IMAGES)?;
    let name = new.name.clone();
    let mut image = stored(&table, namespace, &name)?;
    changes::apply(&mut image, new, mask)?;
    changes::check(&image)?;
    let lease = lease_that_keeps(transaction, namespace, &image, lease)?;
    leases::add(transaction, namespace, lease, RESOURCE, &name)?;
    changes::drop_empty(&mut image);
    image.updated_at = at.unwrap_or_else(SystemTime::now);
    table.insert((namespace.as_str(), name.as_str()), &*record::encode(&image))?;
    collection::note(transaction, NodeKind::Image, namespace.as_str(), &name)?;
    Ok(image)
}

/// Only if its target has this digest, if there is one. The lease keeps it no longer.
pub(crate) fn delete(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    name: &str,
    target: Option<&str>,
    lease: Option<&str>,
) -> Attempt<()> {
    let mut table = transaction.open_table(IMAGES)?;
    let image = stored(&table, namespace, name)?;
    if let Some(target) = target.filter(|target| **target != image.target.digest) {
        let message = format!("{} has target {}, not {target}", shown(name), image.target.digest);
        return Err(StoreError::NotFound(message).into());
    }
    table.remove((namespace.as_str(), name))?;
    leases::forget(transaction, namespace, lease, RESOURCE, name)
}

/// The lease that is to keep an image. It is that of the call if the image would end by itself: all others need nobody
/// who keeps them.
fn lease_that_keeps<'a>(
    transaction: &WriteTransaction,
    namespace: &Namespace,
    image: &Image,
    lease: Option<&'a str>,
) -> Attempt<Option<&'a str>> {
    let lease = lease.filter(|_| image.labels.contains_key(LABEL_EXPIRE));
    leases::require_named(transaction, namespace, lease)?;
    Ok(lease)
}

fn stored(
    table: &impl ReadableTable<tables::Key, &'static [u8]>,
    namespace: &Namespace,
    name: &str,
) -> Attempt<Image> {
    match table.get((namespace.as_str(), name))? {
        Some(record) => decode(namespace, name, record.value()),
        None => Err(unknown(name).into()),
    }
}

fn unknown(name: &str) -> StoreError {
    StoreError::NotFound(shown(name))
}

fn shown(name: &str) -> String {
    format!("image {name:?}")
}

/// A record of [`IMAGES`].
pub(crate) fn decode(namespace: &Namespace, name: &str, record: &[u8]) -> Attempt<Image> {
    let what = || format!("image {name:?} in namespace {:?}", namespace.name());
    tables::decoded(what, record::decode(name, record))
}

/// The fields by which images are listed.
fn field<'a>(image: &'a Image, path: &[String]) -> Option<Cow<'a, str>> {
    match (path[0].as_str(), path.get(1).map(String::as_str)) {
        ("name", _) => filter::field(&image.name),
        ("target", Some("digest")) => filter::field(&image.target.digest),
        ("target", Some("mediatype")) => filter::field(&image.target.media_type),
        ("labels", _) => filter::label(&image.labels, &path[1..]),
        ("annotations", _) => filter::label(&image.target.annotations, &path[1..]),
        _ => None,
    }
}
