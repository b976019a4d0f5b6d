//! How the last server that had the files left them, and what was found out about them since.

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::{
    Digest,
    tables::{ABOUT, Attempt, BLOB_FILES},
};

/// How the files were left: 0 if nobody knows, or one of these. To an earlier server all but [`IN_ORDER`] is the same as 0.
const CLOSED: &str = "content-closed";
const IN_ORDER: u64 = 1;
const WITH_STRAYS: u64 = 2;

/// Which epoch it is.
const EPOCH: &str = "content-epoch";

/// Which boot it is, as its server says.
const BOOT: &str = "content-boot";

/// How files were left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentState {
    /// By a server that knew of all changes: every record has its file.
    pub was_closed: bool,
    /// There may be files of blobs without a record.
    pub has_strays: bool,
    /// In this boot: what was written is there, on the disk or not.
    pub is_same_boot: bool,
    /// Which epoch it is now.
    pub epoch: u64,
}

/// Notes that a server has the files, in this boot.
pub(super) fn open(transaction: &WriteTransaction, boot: u64) -> Attempt<ContentState> {
    let mut table = transaction.open_table(ABOUT)?;
    let get = |key| Ok::<_, redb::StorageError>(table.get(key)?.map(|value| value.value()));
    let left = get(CLOSED)?;
    let was_closed = matches!(left, Some(IN_ORDER | WITH_STRAYS));
    let has_strays = left != Some(IN_ORDER);
    let is_same_boot = get(BOOT)? == Some(boot);
    let epoch = get(EPOCH)?.unwrap_or_default() + u64::from(!was_closed);
    table.insert(CLOSED, 0)?;
    table.insert(BOOT, boot)?;
    table.insert(EPOCH, epoch)?;
    Ok(ContentState { was_closed, has_strays, is_same_boot, epoch })
}

/// Notes that all records have their files, and that nobody has these.
pub(super) fn close(transaction: &WriteTransaction, has_strays: bool) -> Attempt<()> {
    let left = if has_strays { WITH_STRAYS } else { IN_ORDER };
    transaction.open_table(ABOUT)?.insert(CLOSED, left)?;
    Ok(())
}

/// Whether a file was known to be whole in this epoch.
pub(super) fn is_checked(
    transaction: &ReadTransaction,
    digest: &Digest,
    epoch: u64,
) -> Attempt<bool> {
    let file = transaction.open_table(BLOB_FILES)?.get(digest.as_str())?;
    Ok(file.is_some_and(|file| file.value().1 >= epoch))
}

/// Notes that it is, if it is still known at all.
pub(super) fn set_checked(
    transaction: &WriteTransaction,
    digest: &Digest,
    epoch: u64,
) -> Attempt<()> {
    let mut table = transaction.open_table(BLOB_FILES)?;
    let size = table.get(digest.as_str())?.map(|file| file.value().0);
    if let Some(size) = size {
        table.insert(digest.as_str(), (size, epoch))?;
    }
    Ok(())
}

/// Which of these have no record.
pub(super) fn unknown_of(
    transaction: &ReadTransaction,
    mut digests: Vec<Digest>,
) -> Attempt<Vec<Digest>> {
    let table = transaction.open_table(BLOB_FILES)?;
    let mut failure = None;
    digests.retain(|digest| match table.get(digest.as_str()) {
        Ok(file) => file.is_none(),
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    failure.map_or(Ok(digests), |error| Err(error.into()))
}
