//! The store's calls on snapshots.

use gantry_domain::Namespace;

use super::{
    CommittedSnapshot, NewSnapshot, Snapshot, SnapshotChain, SnapshotPage, changes, query,
};
use crate::{
    Labels, Store, StoreError, filter::Filters, store::size_of_labels, tables::SNAPSHOTS, validate,
};

impl Store {
    /// What is known of a snapshot.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
    ) -> Result<Snapshot, StoreError> {
        let (namespace, snapshotter, key) =
            (namespace.clone(), snapshotter.to_owned(), key.to_owned());
        self.0.read(move |read| query::get(read, &namespace, &snapshotter, &key)).await
    }

    /// Whether there is such a snapshot. If so, the lease keeps it from now on: it is not collected in between.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the snapshot is there, and no such lease.
    pub async fn lease_snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
        lease: &str,
    ) -> Result<bool, StoreError> {
        let (namespace, snapshotter) = (namespace.clone(), snapshotter.to_owned());
        let (key, lease) = (key.to_owned(), lease.to_owned());
        let add = move |change: &_| changes::lease(change, &namespace, &snapshotter, &key, &lease);
        self.0.write(0, add).await
    }

    /// [`Store::snapshot`], and the directories of its parents.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn snapshot_chain(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
    ) -> Result<SnapshotChain, StoreError> {
        let (namespace, snapshotter, key) =
            (namespace.clone(), snapshotter.to_owned(), key.to_owned());
        self.0.read(move |read| query::chain(read, &namespace, &snapshotter, &key)).await
    }

    /// As [`Store::blob_page`], of the snapshots of a snapshotter.
    ///
    /// # Errors
    /// As all calls.
    pub async fn snapshot_page(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<SnapshotPage, StoreError> {
        let (namespace, snapshotter, filters) =
            (namespace.clone(), snapshotter.to_owned(), filters.clone());
        let page =
            move |read: &_| query::list(read, &namespace, &snapshotter, &filters, after.as_deref());
        self.0.read(page).await
    }

    /// The directories of what a new snapshot is made on, the nearest first: for who makes its directory, and then
    /// calls [`Store::add_snapshot`], which checks all again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::AlreadyExists`] if there is one with its key or with the name that its
    /// label [`super::LABEL_TARGET`] has; [`StoreError::NotFound`] if there is no such parent.
    pub async fn snapshot_foundation(
        &self,
        namespace: &Namespace,
        new: &NewSnapshot,
    ) -> Result<Vec<u64>, StoreError> {
        validate::text("key", &new.key)?;
        validate::labels("labels", "info.Labels", &new.labels)?;
        let (namespace, new) = (namespace.clone(), new.clone());
        self.0.read(move |read| query::foundation(read, &namespace, &new)).await
    }

    /// Adds a snapshot with its directory, which was made on top of the directory `below`, its parent's. The namespace
    /// is created with it, and the lease keeps it.
    ///
    /// # Errors
    /// As [`Store::snapshot_foundation`]; [`StoreError::NotFound`] if there is no such lease, or the parent is another
    /// one by now.
    pub async fn add_snapshot(
        &self,
        namespace: &Namespace,
        new: NewSnapshot,
        directory: u64,
        below: Option<u64>,
    ) -> Result<Snapshot, StoreError> {
        let bytes = size_of_labels(&new.labels) + new.key.len() + new.parent.len();
        let namespace = namespace.clone();
        let add = move |change: &_| changes::add(change, &namespace, &new, directory, below);
        self.0.write(bytes, add).await
    }

    /// The active snapshot that can be committed as `name`: for who counts its usage, and then calls
    /// [`Store::commit_snapshot`], which checks all again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the name is empty or too long, [`StoreError::AlreadyExists`] if it is taken;
    /// [`StoreError::NotFound`]; [`StoreError::FailedPrecondition`] if the snapshot is not active.
    pub async fn committable_snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
        name: &str,
    ) -> Result<Snapshot, StoreError> {
        validate::text("name", name)?;
        let (namespace, snapshotter) = (namespace.clone(), snapshotter.to_owned());
        let (key, name) = (key.to_owned(), name.to_owned());
        let find = move |read: &redb::ReadTransaction| {
            let table = read.open_table(SNAPSHOTS)?;
            changes::committable(&table, &namespace, &snapshotter, &key, &name)
        };
        self.0.read(find).await
    }

    /// Makes an active snapshot a committed one. The lease keeps it instead of the active one.
    ///
    /// # Errors
    /// As [`Store::committable_snapshot`]; [`StoreError::NotFound`] if there is no such lease.
    pub async fn commit_snapshot(
        &self,
        namespace: &Namespace,
        committed: CommittedSnapshot,
    ) -> Result<Snapshot, StoreError> {
        validate::text("name", &committed.name)?;
        validate::labels("labels", "info.Labels", &committed.labels)?;
        let bytes = size_of_labels(&committed.labels) + committed.name.len();
        let namespace = namespace.clone();
        self.0.write(bytes, move |change| changes::commit(change, &namespace, &committed)).await
    }

    /// Takes from `labels` those that the paths `labels.KEY` of `mask` name, or all if there are none or one is
    /// `labels`; an empty value deletes. Gives the snapshot as it is then.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::NotFound`].
    pub async fn update_snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
        labels: Labels,
        mask: Vec<String>,
    ) -> Result<Snapshot, StoreError> {
        let bytes = size_of_labels(&labels) + mask.iter().map(String::len).sum::<usize>();
        let (namespace, snapshotter, key) =
            (namespace.clone(), snapshotter.to_owned(), key.to_owned());
        let update = move |change: &_| {
            changes::update(change, &namespace, &snapshotter, &key, labels, &mask)
        };
        self.0.write(bytes, update).await
    }

    /// Removes a snapshot that no other was made on; gives what it was: its directory is nobody's now. The lease, if
    /// one is given, keeps it no longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::FailedPrecondition`] if it has children.
    pub async fn remove_snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        key: &str,
        lease: Option<String>,
    ) -> Result<Snapshot, StoreError> {
        let (namespace, snapshotter, key) =
            (namespace.clone(), snapshotter.to_owned(), key.to_owned());
        let remove = move |change: &_| {
            changes::remove(change, &namespace, &snapshotter, &key, lease.as_deref())
        };
        self.0.release(remove).await
    }

    /// The numbers of the directories of a snapshotter, of all namespaces.
    ///
    /// # Errors
    /// As all calls.
    pub async fn snapshot_directories(&self, snapshotter: &str) -> Result<Vec<u64>, StoreError> {
        let snapshotter = snapshotter.to_owned();
        self.0.read(move |read| query::directories(read, &snapshotter)).await
    }

    /// The greatest number that a snapshot's directory has had.
    ///
    /// # Errors
    /// As all calls.
    pub async fn last_snapshot_directory(&self) -> Result<u64, StoreError> {
        self.0.read(query::last_directory).await
    }
}
