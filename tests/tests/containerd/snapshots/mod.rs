//! Snapshots: file systems in layers.

mod failpoints;
mod layers;
mod restart;
mod service;

use std::path::PathBuf;

use gantry_api::containerd::{
    snapshots::{
        CommitSnapshotRequest, Info, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
        StatSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest,
    },
    types::Mount,
};
use tonic::{Request, Status};

use crate::{
    Bed,
    content::{KEEPER, keep, leased},
    of,
};

/// The snapshots of one snapshotter in one namespace.
#[derive(Clone, Copy)]
pub(crate) struct Snapshots<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) namespace: &'static str,
    pub(crate) snapshotter: &'static str,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn overlayfs(bed: &'a Bed) -> Self {
        Self { bed, namespace: "ns", snapshotter: "overlayfs" }
    }

    /// A request under a lease, so that what it makes is not collected.
    async fn leased<T>(self, message: T) -> Request<T> {
        keep(self.bed, self.namespace).await;
        leased(self.namespace, KEEPER, message)
    }

    fn names(self, key: &str) -> (String, String) {
        (self.snapshotter.to_owned(), key.to_owned())
    }

    pub(crate) async fn prepare(self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let ((snapshotter, key), parent) = (self.names(key), parent.to_owned());
        let request = PrepareSnapshotRequest { snapshotter, key, parent, ..Default::default() };
        let prepared = self.bed.snapshots().prepare(self.leased(request).await).await?;
        Ok(prepared.into_inner().mounts)
    }

    async fn view(self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let ((snapshotter, key), parent) = (self.names(key), parent.to_owned());
        let request = ViewSnapshotRequest { snapshotter, key, parent, ..Default::default() };
        let made = self.bed.snapshots().view(self.leased(request).await).await?;
        Ok(made.into_inner().mounts)
    }

    async fn mounts(self, key: &str) -> Result<Vec<Mount>, Status> {
        let (snapshotter, key) = self.names(key);
        let request = MountsRequest { snapshotter, key };
        let found = self.bed.snapshots().mounts(of(self.namespace, request)).await?;
        Ok(found.into_inner().mounts)
    }

    pub(crate) async fn commit(self, key: &str, name: &str) -> Result<(), Status> {
        let ((snapshotter, key), name) = (self.names(key), name.to_owned());
        let request = CommitSnapshotRequest { snapshotter, key, name, ..Default::default() };
        self.bed.snapshots().commit(self.leased(request).await).await.map(drop)
    }

    pub(crate) async fn remove(self, key: &str) -> Result<(), Status> {
        let (snapshotter, key) = self.names(key);
        let request = RemoveSnapshotRequest { snapshotter, key };
        self.bed.snapshots().remove(of(self.namespace, request)).await.map(drop)
    }

    async fn stat(self, key: &str) -> Result<Info, Status> {
        let (snapshotter, key) = self.names(key);
        let request = StatSnapshotRequest { snapshotter, key };
        let found = self.bed.snapshots().stat(of(self.namespace, request)).await?;
        Ok(found.into_inner().info.expect("an info"))
    }

    async fn usage(self, key: &str) -> Result<UsageResponse, Status> {
        let (snapshotter, key) = self.names(key);
        let request = UsageRequest { snapshotter, key };
        self.bed.snapshots().usage(of(self.namespace, request)).await.map(|it| it.into_inner())
    }

    /// What is in this directory of the snapshotter.
    fn left(self, dir: &str) -> Vec<String> {
        let root = self.bed.server.root().join("snapshots").join(self.snapshotter).join(dir);
        let entries = std::fs::read_dir(root).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Where the files of an active snapshot are that are its own.
pub(crate) fn own_files(mounts: &[Mount]) -> PathBuf {
    let [Mount { r#type, source, options, .. }] = mounts else { panic!("{mounts:?}") };
    if r#type == "bind" {
        return source.into();
    }
    let upper = options.iter().find_map(|option| option.strip_prefix("upperdir="));
    upper.expect("an upper directory").into()
}
