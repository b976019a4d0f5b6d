//! The database: opened, opened again after the disk has failed, and moved out of the way if damaged.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};

use crate::{Recovery, StoreError, backing::Backing, tables};

/// What the file is called.
pub(crate) const FILE: &str = "metadata.redb";

/// How much of the database is kept in memory at most, in bytes. More made nothing faster, with 1,000 containers.
const CACHE: usize = 1 << 20;

/// The database. Reads go on while something is written.
pub(crate) struct Engine {
    path: PathBuf,
    /// Written to only to open or close the database.
    state: RwLock<State>,
}

struct State {
    /// None if it could not be opened again, or was closed.
    database: Option<Database>,
    is_closed: bool,
    /// How often it was opened.
    opened: u64,
}

impl Engine {
    /// Opens or makes the database in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Recovery), StoreError> {
        let path = dir.join(FILE);
        let mut recovery = Recovery::default();
        let opened = match open(&path, Check::Everything) {
            // The check wants to write. What is there can be read all the same.
            Err(StoreError::NoRoom { .. }) => open(&path, Check::AfterCrash),
            Err(error) if is_damage(&error) => {
                recovery = quarantine(&path, &error)?;
                create(&path)
            }
            Err(StoreError::Open { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                create(&path)
            }
            opened => opened,
        };
        let state = State { database: Some(opened?), is_closed: false, opened: 1 };
        Ok((Self { path, state: RwLock::new(state) }, recovery))
    }

    /// Reads what was last committed.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let once = || {
            self.with(|database| read(&database.begin_read().map_err(|error| self.failed(error))?))
        };
        match once() {
            // The disk has failed in the meantime, or at some time, for somebody else.
            (opened, Err(error)) if error.stops_the_database() => {
                self.reopen(opened);
                once().1
            }
            (_, result) => result,
        }
    }

    /// Has `change` make its changes and commits them, if it says that there are any. When this returns they
    /// are on the disk; if it fails, none of them is, unless the disk is at fault and keeps more than it says.
    pub(crate) fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        // Left so by a disk that had failed, and may not fail any more.
        if let Some(opened) = self.left_closed() {
            self.reopen(opened);
        }
        let (opened, result) = self.with(|database| {
            let transaction = database.begin_write().map_err(|error| self.failed(error))?;
            if change(&transaction)? {
                transaction.commit().map_err(|error| self.failed(error))
            } else {
                transaction.abort().map_err(|error| self.failed(error))
            }
        });
        if result.as_ref().is_err_and(StoreError::stops_the_database) {
            self.reopen(opened);
        }
        result
    }

    /// Nothing is read or written any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.is_closed = true;
        state.database = None;
    }

    /// What an error of the database means.
    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        failed(&self.path, error)
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> (u64, Result<T, StoreError>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &state.database {
            Some(database) => call(database),
            None if state.is_closed => Err(StoreError::Closed),
            None => Err(self.failed(redb::Error::PreviousIo)),
        };
        (state.opened, result)
    }

    /// How often it was opened, if it could not be opened again.
    fn left_closed(&self) -> Option<u64> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.database.is_none() && !state.is_closed).then_some(state.opened)
    }

    /// Opens it again, unless somebody else has done so since it was opened for the `opened`th time: after a
    /// failure of the disk redb does nothing else. What was committed is as it was.
    fn reopen(&self, opened: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.is_closed || state.opened != opened {
            return;
        }
        state.database = None;
        match open(&self.path, Check::AfterCrash) {
            Ok(database) => {
                state.database = Some(database);
                state.opened += 1;
            }
            Err(error) => tracing::error!(%error, "the metadata cannot be opened again for now"),
        }
    }
}

/// How much of the file is checked when it is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// All pages, which needs room to write to.
    Everything,
    /// All pages, but only if it was not closed.
    AfterCrash,
}

/// Makes the database under another name first: under its own it is whole from the beginning.
fn create(path: &Path) -> Result<Database, StoreError> {
    let new = path.with_extension("redb.new");
    let io_failed = |cause| StoreError::Open { path: path.to_owned(), cause: Arc::new(cause) };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_failed(error)),
        _ => {}
    }
    let backing = Backing::create(&new).map_err(io_failed)?;
    let database = builder(Check::AfterCrash).create_with_backend(backing);
    let database = database.map_err(|error| failed(path, error))?;
    tables::make(&database).map_err(|error| failed(path, error))?;
    drop(database);
    fs::rename(&new, path).and_then(|()| sync_directory(path)).map_err(io_failed)?;
    open(path, Check::AfterCrash)
}

fn open(path: &Path, check: Check) -> Result<Database, StoreError> {
    let backing = match Backing::open(path) {
        Ok(backing) => backing,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(StoreError::InUse { path: path.to_owned() });
        }
        Err(cause) => {
            return Err(StoreError::Open { path: path.to_owned(), cause: Arc::new(cause) });
        }
    };
    if backing.len().map_err(|error| failed(path, error))? == 0 {
        // redb would take it for a new one.
        return Err(failed(path, redb::Error::Corrupted("the file is empty".to_owned())));
    }
    let database = builder(check).create_with_backend(backing);
    let database = database.map_err(|error| failed(path, error))?;
    tables::require_format(&database, path)?;
    tables::make_missing(&database).map_err(|error| failed(path, error))?;
    Ok(database)
}

fn builder(check: Check) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(check == Check::Everything);
    builder
}

pub(crate) fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let (path, cause) = (path.to_owned(), Arc::new(error.into()));
    match &*cause {
        redb::Error::Io(error) if is_no_room(error) => StoreError::NoRoom { path, cause },
        _ => StoreError::Database { path, cause },
    }
}

fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Whether the file, and not the disk, is at fault.
fn is_damage(error: &StoreError) -> bool {
    let StoreError::Database { cause, .. } = error else { return false };
    match &**cause {
        redb::Error::Io(error) => {
            // Neither redb's magic number, nor as long as it says.
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

/// Moves the file to the first free name.
fn quarantine(path: &Path, error: &StoreError) -> Result<Recovery, StoreError> {
    let failed = |cause| StoreError::Quarantine { path: path.to_owned(), cause: Arc::new(cause) };
    let mut number = 1;
    let mut moved = path.with_extension("redb.corrupt-1");
    while fs::symlink_metadata(&moved).is_ok() {
        number += 1;
        moved = path.with_extension(format!("redb.corrupt-{number}"));
    }
    fs::rename(path, &moved).map_err(failed)?;
    sync_directory(path).map_err(failed)?;
    Ok(Recovery { quarantined: Some(moved), reason: Some(error.to_string()) })
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
