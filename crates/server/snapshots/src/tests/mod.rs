//! The snapshotters as a whole.

mod copies;
mod full_disk;
mod life;
mod recovery;
mod removal;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::{Mount, Namespace};
use gantry_store::{Labels, NewSnapshot, Store};
use tempfile::TempDir;

use crate::{SnapshotError, Snapshots, Snapshotter};

const BOTH: [&str; 2] = ["native", "overlayfs"];

/// Snapshots of its own, in a directory that lives as long.
struct Bed {
    dir: TempDir,
    store: Store,
    snapshots: Snapshots,
}

impl Bed {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (store, snapshots) = open(dir.path(), true).await;
        Self { dir, store, snapshots }
    }

    /// Ends the server, and starts another one.
    async fn restart(&mut self) {
        self.restart_where(true).await;
    }

    /// The other one can, or cannot, have mounts with mapped ids.
    async fn restart_where(&mut self, maps_ids: bool) {
        self.store.close().await;
        (self.store, self.snapshots) = open(self.dir.path(), maps_ids).await;
    }

    /// Whatever the host can: nothing is mounted here.
    fn of(&self, name: &str) -> Snapshotter {
        let found = self.snapshots.all().into_iter().find(|found| found.name() == name);
        found.unwrap().clone()
    }

    /// Of one of the snapshotters.
    fn path(&self, snapshotter: &str, path: &str) -> PathBuf {
        self.dir.path().join("snapshots").join(snapshotter).join(path)
    }
}

async fn open(dir: &Path, maps_ids: bool) -> (Store, Snapshots) {
    let (store, recovery) = Store::open(dir).unwrap();
    assert!(recovery.is_clean(), "{recovery}");
    let snapshots = Snapshots::open(dir, store.clone(), maps_ids).await.unwrap();
    (store, snapshots)
}

fn namespace() -> Namespace {
    Namespace::named("ns").unwrap()
}

fn new(snapshotter: &Snapshotter, key: &str, parent: &str) -> NewSnapshot {
    NewSnapshot {
        snapshotter: snapshotter.name().to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        is_view: false,
        labels: Labels::new(),
        lease: None,
    }
}

async fn prepare(
    snapshotter: &Snapshotter,
    key: &str,
    parent: &str,
) -> Result<Vec<Mount>, SnapshotError> {
    snapshotter.prepare(&namespace(), new(snapshotter, key, parent)).await
}

async fn view(snapshotter: &Snapshotter, key: &str, parent: &str) -> Vec<Mount> {
    let new = NewSnapshot { is_view: true, ..new(snapshotter, key, parent) };
    snapshotter.prepare(&namespace(), new).await.unwrap()
}

async fn commit(snapshotter: &Snapshotter, key: &str, name: &str) -> Result<(), SnapshotError> {
    snapshotter.commit(&namespace(), key, name, Labels::new(), None).await
}

/// Where the files of a snapshot are.
async fn files(snapshotter: &Snapshotter, key: &str) -> PathBuf {
    let snapshot = snapshotter.stat(&namespace(), key).await.unwrap();
    Arc::clone(&snapshotter.0).layout.files(snapshot.directory)
}

/// What is in a directory, by name.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Some tests change owners and make devices.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}
