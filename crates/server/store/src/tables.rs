//! The tables of the database, and what they have in common.

use std::path::Path;

use gantry_domain::Namespace;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError, TableHandle, WriteTransaction,
};

use crate::{Labels, StoreError, codec, engine::failed};

/// Namespace and id. A tuple is no concatenation: no pair of names is another pair's key.
pub(crate) type Key = (&'static str, &'static str);

/// The version of the tables, by the name below.
pub(crate) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const FORMAT: &str = "format";
const KNOWN_FORMAT: u64 = 1;

/// Labels of namespaces: those that were created, and those that have had an object.
pub(crate) const NAMESPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("namespaces");
pub(crate) const CONTAINERS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("containers");
pub(crate) const LEASES: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("leases");
/// Namespace, lease, kind and id of a resource.
pub(crate) const RESOURCES: TableDefinition<'_, (&str, &str, &str, &str), ()> =
    TableDefinition::new("lease-resources");
/// Namespace and digest: what a namespace knows of a blob.
pub(crate) const BLOBS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("blobs");
/// Digest and namespace: who has a blob.
pub(crate) const BLOB_OWNERS: TableDefinition<'_, Key, ()> = TableDefinition::new("blob-owners");
/// By digest, the size of a blob's file, and in which epoch it was known to be whole, see `content`.
pub(crate) const BLOB_FILES: TableDefinition<'_, &str, (u64, u64)> =
    TableDefinition::new("blob-files");
/// Namespace and reference of a write under way.
pub(crate) const INGESTS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("ingests");
/// Namespace and name of an image.
pub(crate) const IMAGES: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("images");
/// Namespace, kind and key of what was written since a collection began, see `collection`.
pub(crate) const COLLECTION: TableDefinition<'_, (&str, &str, &str), ()> =
    TableDefinition::new("collection");

/// Namespace, snapshotter and key.
pub(crate) type SnapshotKey = (&'static str, &'static str, &'static str);
pub(crate) const SNAPSHOTS: TableDefinition<'_, SnapshotKey, &[u8]> =
    TableDefinition::new("snapshots");
/// Namespace and snapshotter, and the keys of a parent and of what was made on it.
pub(crate) const SNAPSHOT_CHILDREN: TableDefinition<'_, (&str, &str, &str, &str), ()> =
    TableDefinition::new("snapshot-children");

/// Checks that the tables are of the known format.
pub(crate) fn require_format(database: &Database, path: &Path) -> Result<(), StoreError> {
    let found = format(database).map_err(|error| failed(path, error))?;
    if found == KNOWN_FORMAT {
        return Ok(());
    }
    Err(StoreError::Newer { path: path.to_owned(), found, known: KNOWN_FORMAT })
}

fn format(database: &Database) -> Result<u64, redb::Error> {
    let format = database.begin_read()?.open_table(ABOUT)?.get(FORMAT)?.map(|at| at.value());
    format.ok_or_else(|| redb::Error::Corrupted("it has no format".to_owned()))
}

/// Makes the tables.
pub(crate) fn make(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert(FORMAT, KNOWN_FORMAT)?;
    open_all(&transaction)?;
    Ok(transaction.commit()?)
}

/// Makes the tables that an earlier version did not have. One that reads the file again later leaves them alone.
pub(crate) fn make_missing(database: &Database) -> Result<(), redb::Error> {
    let read = database.begin_read()?;
    let known: Vec<_> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    // The last one of each version that brought some.
    let lasts = [INGESTS.name(), IMAGES.name(), SNAPSHOT_CHILDREN.name(), COLLECTION.name()];
    if lasts.iter().all(|last| known.iter().any(|table| table == last)) {
        return Ok(());
    }
    drop(read);
    let transaction = database.begin_write()?;
    open_all(&transaction)?;
    Ok(transaction.commit()?)
}

fn open_all(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(NAMESPACES)?;
    transaction.open_table(CONTAINERS)?;
    transaction.open_table(LEASES)?;
    transaction.open_table(RESOURCES)?;
    transaction.open_table(BLOBS)?;
    transaction.open_table(BLOB_OWNERS)?;
    transaction.open_table(BLOB_FILES)?;
    transaction.open_table(INGESTS)?;
    transaction.open_table(IMAGES)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(SNAPSHOT_CHILDREN)?;
    transaction.open_table(COLLECTION)?;
    Ok(())
}

/// What an operation fails with: an answer to the caller, or the database.
#[derive(Debug)]
pub(crate) enum Failure {
    Answer(StoreError),
    Database(redb::Error),
}

pub(crate) type Attempt<T> = Result<T, Failure>;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Database(error.into())
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Database(error.into())
    }
}

/// Makes the namespace if it is not there: containerd's namespaces come with their first object.
pub(crate) fn touch(transaction: &WriteTransaction, namespace: &Namespace) -> Attempt<()> {
    let mut table = transaction.open_table(NAMESPACES)?;
    if table.get(namespace.as_str())?.is_none() {
        table.insert(namespace.as_str(), &*codec::encode_labels(&Labels::new()))?;
    }
    Ok(())
}

/// What a record is decoded to.
pub(crate) fn decoded<T>(
    what: impl FnOnce() -> String,
    record: Result<T, codec::Fault>,
) -> Attempt<T> {
    record.map_err(|reason| Failure::Answer(StoreError::Damaged { what: what(), reason }))
}

/// The ids in a namespace, from `first` on, and their records, until `each` has enough.
pub(crate) fn scan(
    table: &impl ReadableTable<Key, &'static [u8]>,
    namespace: &Namespace,
    first: &str,
    mut each: impl FnMut(&str, &[u8]) -> Attempt<Next>,
) -> Attempt<()> {
    for entry in table.range((namespace.as_str(), first)..)? {
        let (key, record) = entry?;
        let (of, id) = key.value();
        if of != namespace.as_str() || each(id, record.value())? == Next::Stop {
            break;
        }
    }
    Ok(())
}

/// The namespaces and ids of a whole table, and their records, until `each` has enough. `kind` is what is in the
/// table, for an error.
pub(crate) fn scan_all(
    table: &impl ReadableTable<Key, &'static [u8]>,
    kind: &str,
    mut each: impl FnMut(Namespace, &str, &[u8]) -> Attempt<Next>,
) -> Attempt<()> {
    for entry in table.iter()? {
        let (key, record) = entry?;
        let (namespace, id) = key.value();
        let what = || format!("{kind} {id:?}");
        let namespace = Namespace::from_record(namespace).ok_or("it has no such namespace");
        if each(decoded(what, namespace)?, id, record.value())? == Next::Stop {
            break;
        }
    }
    Ok(())
}

/// A page of a list ends when so many bytes of ids and records were listed, except where records are large.
pub(crate) const PAGE_BYTES: usize = 256 << 10;

/// How many records are read at most for a page of a list.
pub(crate) const PAGE_SCANNED: usize = 1000;

/// A part of what a namespace has in a table, after an id: what `take` makes of each record, until that are so many
/// bytes of ids and records, and after which id the next part begins.
pub(crate) fn page<T>(
    table: &impl ReadableTable<Key, &'static [u8]>,
    namespace: &Namespace,
    after: Option<&str>,
    most_bytes: usize,
    take: impl Fn(&str, &[u8]) -> Attempt<Option<T>>,
) -> Attempt<(Vec<T>, Option<String>)> {
    let (mut taken, mut scanned, mut bytes, mut next) = (Vec::new(), 0, 0, None);
    // The smallest text that is greater.
    let first = after.map(|after| format!("{after}\0")).unwrap_or_default();
    scan(table, namespace, &first, |id, record| {
        scanned += 1;
        if let Some(one) = take(id, record)? {
            bytes += id.len() + record.len();
            taken.push(one);
        }
        if bytes < most_bytes && scanned < PAGE_SCANNED {
            return Ok(Next::Continue);
        }
        next = Some(id.to_owned());
        Ok(Next::Stop)
    })?;
    Ok((taken, next))
}

/// Whether a scan goes on.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    Stop,
}

/// The record of a key, as it is in the database.
pub(crate) fn record(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, Key, &'static [u8]>,
    key: (&str, &str),
) -> Attempt<Option<Vec<u8>>> {
    let table = transaction.open_table(table)?;
    Ok(table.get(key)?.map(|record| record.value().to_vec()))
}
