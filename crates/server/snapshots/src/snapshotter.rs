//! A snapshotter as its callers see it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gantry_disk::OwnFiles;
use gantry_domain::{Kind, Mount, Namespace};
use gantry_failpoints::{Point, reach};
use gantry_store::{
    CommittedSnapshot, LABEL_TARGET, Labels, NewSnapshot, Snapshot, SnapshotChain, SnapshotKind,
    SnapshotUsage, Store, StoreError,
};
use tokio::sync::Mutex;

use crate::{
    SnapshotError, id_labels,
    layout::{self, Layout},
    making::Making,
    mounts, recovery, support, trash, usage,
};

/// How a snapshotter keeps files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Overlayfs,
    Native,
}

/// What the host needs in each mount, or why it can have none.
pub(crate) type Options = Result<Vec<String>, String>;

impl Flavour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Native => "native",
        }
    }

    /// Makes its directories, and finds what its mounts need.
    pub(crate) fn open(self, layout: &Layout) -> Result<Options, SnapshotError> {
        layout.make_all()?;
        match self {
            Self::Overlayfs => support::options(layout),
            Self::Native => Ok(Ok(Vec::new())),
        }
    }
}

/// One of the snapshotters. Clones are the same.
#[derive(Clone)]
pub struct Snapshotter(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) flavour: Flavour,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) maps_ids: bool,
    pub(crate) store: Store,
    /// For what takes a moment.
    pub(crate) short: OwnFiles,
    /// For what takes as long as there are files.
    pub(crate) long: OwnFiles,
    /// The greatest number of a directory, of all snapshotters.
    pub(crate) last: Arc<AtomicU64>,
    pub(crate) making: Making,
    pub(crate) emptying: Mutex<()>,
}

impl Snapshotter {
    /// As callers name it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.flavour.name()
    }

    /// The directory of all its files.
    #[must_use]
    pub fn root(&self) -> String {
        self.0.layout.root().display().to_string()
    }

    /// Whether its mounts have files of other owners than on the disk, if labels of a snapshot say so.
    #[must_use]
    pub fn maps_ids(&self) -> bool {
        self.0.maps_ids && self.problem().is_none()
    }

    /// Why the host cannot have it.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.0.options.as_ref().err().map(String::as_str)
    }

    /// Makes a snapshot, active or a view. `new` is this snapshotter's. What it is to be mounted as.
    ///
    /// # Errors
    /// That the key is taken, or the target is there already; that there is no such parent or lease, or the parent is
    /// not committed; that a name or label is too long; or that files cannot be made.
    pub async fn prepare(
        &self,
        namespace: &Namespace,
        new: NewSnapshot,
    ) -> Result<Vec<Mount>, SnapshotError> {
        loop {
            let error = match self.make(namespace, new.clone()).await {
                Ok(chain) => return self.mounts_of(namespace, &chain).await,
                Err(error) => error,
            };
            let target = new.labels.get(LABEL_TARGET).filter(|target| !target.is_empty());
            let (Some(target), Some(lease)) = (target, &new.lease) else { return Err(error) };
            // The caller goes on with the target instead. If that has gone meanwhile, there has to be one that is made.
            if error.kind() != Kind::AlreadyExists
                || self.0.store.lease_snapshot(namespace, self.name(), target, lease).await?
                || self.stat(namespace, &new.key).await.is_ok()
            {
                return Err(error);
            }
        }
    }

    async fn make(
        &self,
        namespace: &Namespace,
        new: NewSnapshot,
    ) -> Result<SnapshotChain, SnapshotError> {
        let below = self.0.store.snapshot_foundation(namespace, &new).await?;
        let (nearest, is_view) = (below.first().copied(), new.is_view);
        let root = match self.0.flavour {
            Flavour::Overlayfs => id_labels::root(&new.labels)?,
            Flavour::Native => None,
        };
        let directory = self.0.last.fetch_add(1, Ordering::SeqCst) + 1;
        let making = self.0.making.begin(directory);
        let layout = self.0.layout.clone();
        let is_mapped = self.maps_ids() && root.is_some();
        let copies = self.0.flavour == Flavour::Native && nearest.is_some() && !is_view;
        let files = if copies { &self.0.long } else { &self.0.short };
        let make = move |_: &_| layout.make(directory, is_view, nearest, root, is_mapped);
        let made = files.run(make).await;
        if let Err(error) = made {
            self.discard(directory).await;
            // The parent may have gone meanwhile.
            self.0.store.snapshot_foundation(namespace, &new).await?;
            return Err(error);
        }
        reach(Point::ServerSnapshotMade);
        let added = self.0.store.add_snapshot(namespace, new, directory, nearest).await;
        reach(Point::ServerSnapshotRecorded);
        drop(making);
        match added {
            Ok(snapshot) => Ok(SnapshotChain { snapshot, below }),
            Err(error) => {
                if is_refused(&error) {
                    self.discard(directory).await;
                }
                Err(error.into())
            }
        }
    }

    /// What an active snapshot or a view is to be mounted as.
    ///
    /// # Errors
    /// That there is none, or it is committed.
    pub async fn mounts(
        &self,
        namespace: &Namespace,
        key: &str,
    ) -> Result<Vec<Mount>, SnapshotError> {
        let chain = self.0.store.snapshot_chain(namespace, self.name(), key).await?;
        self.mounts_of(namespace, &chain).await
    }

    async fn mounts_of(
        &self,
        namespace: &Namespace,
        chain: &SnapshotChain,
    ) -> Result<Vec<Mount>, SnapshotError> {
        let mut options = id_labels::options(&chain.snapshot.labels);
        if !options.is_empty() {
            let (layout, directory) = (self.0.layout.clone(), chain.snapshot.directory);
            if !self.0.short.run(move |_| layout.is_mapped(directory)).await? {
                options.clear();
            }
        }
        let own = self.0.options.as_deref().unwrap_or_default();
        let mount = match self.0.flavour {
            Flavour::Overlayfs => mounts::overlay(&self.0.layout, &options, own, chain),
            Flavour::Native => mounts::native(&self.0.layout, chain),
        };
        match mount {
            Some(mount) => Ok(vec![mount]),
            None => {
                let what = match self.0.flavour {
                    Flavour::Overlayfs => "active mount",
                    Flavour::Native => "snapshot mount",
                };
                let Snapshot { directory, key, .. } = &chain.snapshot;
                let shown = format!("{}/{directory}/{key}", namespace.name());
                Err(SnapshotError::NotMountable { what, shown })
            }
        }
    }

    /// Makes an active snapshot a committed one of another name. What was written to it is on the disk then.
    ///
    /// # Errors
    /// That there is none, it is not active, or the name is taken; that there is no such lease, that a name or label is
    /// too long; or that files cannot be read or synced.
    pub async fn commit(
        &self,
        namespace: &Namespace,
        key: &str,
        name: &str,
        labels: Labels,
        lease: Option<String>,
    ) -> Result<(), SnapshotError> {
        let active = self.0.store.committable_snapshot(namespace, self.name(), key, name).await?;
        let files = self.0.layout.files(active.directory);
        let usage = self.0.long.run(move |_| {
            layout::sync_file_system(&files)?;
            usage::of(&files)
        });
        let usage = match usage.await {
            Ok(usage) => usage,
            Err(error) => {
                // It may have gone meanwhile.
                self.stat(namespace, key).await?;
                return Err(error);
            }
        };
        reach(Point::ServerSnapshotSynced);
        let committed = CommittedSnapshot {
            snapshotter: self.name().to_owned(),
            key: key.to_owned(),
            directory: active.directory,
            name: name.to_owned(),
            labels,
            usage,
            lease,
        };
        self.0.store.commit_snapshot(namespace, committed).await?;
        reach(Point::ServerSnapshotCommitted);
        Ok(())
    }

    /// Removes a snapshot. Its files are removed afterwards.
    ///
    /// # Errors
    /// That there is none, or another one was made on it.
    pub async fn remove(
        &self,
        namespace: &Namespace,
        key: &str,
        lease: Option<String>,
    ) -> Result<(), SnapshotError> {
        let removed = self.0.store.remove_snapshot(namespace, self.name(), key, lease).await?;
        reach(Point::ServerSnapshotForgotten);
        self.discard(removed.directory).await;
        Ok(())
    }

    /// What is known of a snapshot.
    ///
    /// # Errors
    /// That there is none.
    pub async fn stat(&self, namespace: &Namespace, key: &str) -> Result<Snapshot, SnapshotError> {
        Ok(self.0.store.snapshot(namespace, self.name(), key).await?)
    }

    /// What a snapshot takes of the disk, without its parents. A view takes nothing.
    ///
    /// # Errors
    /// That there is none, or its files cannot be counted.
    pub async fn usage(
        &self,
        namespace: &Namespace,
        key: &str,
    ) -> Result<SnapshotUsage, SnapshotError> {
        let snapshot = self.stat(namespace, key).await?;
        if snapshot.kind != SnapshotKind::Active {
            return Ok(snapshot.usage);
        }
        let files = self.0.layout.files(snapshot.directory);
        match self.0.long.run(move |_| usage::of(&files)).await {
            Ok(usage) => Ok(usage),
            Err(error) => {
                // It may have gone, or been committed, meanwhile.
                let now = self.stat(namespace, key).await?;
                if now.kind == SnapshotKind::Committed { Ok(now.usage) } else { Err(error) }
            }
        }
    }

    /// Removes files that belong to no snapshot. It is done when this returns.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub async fn cleanup(&self) -> Result<(), SnapshotError> {
        self.set_strays_aside().await?;
        self.empty().await
    }

    /// Moves directories without a record to the trash.
    pub(crate) async fn set_strays_aside(&self) -> Result<(), SnapshotError> {
        let layout = self.0.layout.clone();
        // In this order: a directory that was made meanwhile is found in one of the last two.
        let found = self.0.short.run(move |_| recovery::directories(&layout)).await?;
        let mut known: HashSet<u64> = self.0.making.all().into_iter().collect();
        known.extend(self.0.store.snapshot_directories(self.name()).await?);
        let strays: Vec<_> = found.into_iter().filter(|found| !known.contains(found)).collect();
        let layout = self.0.layout.clone();
        self.0.short.run(move |_| recovery::set_aside(&layout, &strays)).await
    }

    /// Has a directory without a record removed.
    async fn discard(&self, directory: u64) {
        if self.set_aside(vec![directory]).await {
            self.empty_trash();
        }
    }

    /// Moves directories without a record to the trash. Whether all of them are there.
    pub(crate) async fn set_aside(&self, directories: Vec<u64>) -> bool {
        let layout = self.0.layout.clone();
        let move_all = move |_: &_| {
            let mut are_there = true;
            for directory in directories {
                if let Err(error) = layout.set_aside(directory) {
                    tracing::warn!(%error, "a directory is left over until the next start, or cleanup");
                    are_there = false;
                }
                reach(Point::ServerSnapshotSetAside);
            }
            are_there
        };
        self.0.short.run(move_all).await
    }

    /// Empties the trash in the background.
    pub(crate) fn empty_trash(&self) {
        let snapshotter = self.clone();
        tokio::spawn(async move { snapshotter.empty_now().await });
    }

    /// Empties the trash, as far as that is possible.
    pub(crate) async fn empty_now(&self) {
        if let Err(error) = self.empty().await {
            tracing::warn!(%error, "files of a snapshot are left over until the next start, or cleanup");
        }
    }

    async fn empty(&self) -> Result<(), SnapshotError> {
        let _one_at_a_time = self.0.emptying.lock().await;
        let trash = self.0.layout.trash();
        self.0.long.run(move |_| trash::empty(&trash)).await
    }
}

/// Whether nothing has changed.
fn is_refused(error: &StoreError) -> bool {
    !matches!(error, StoreError::Database { .. } | StoreError::Damaged { .. })
}
