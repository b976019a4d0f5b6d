//! Snapshots of a namespace, in containerd's API: file systems in layers.

use std::collections::BTreeMap;

use gantry_api::containerd::{
    namespaces::{GetNamespaceRequest, namespaces_client::NamespacesClient},
    snapshots::{
        CommitSnapshotRequest, Info, ListSnapshotsRequest, PrepareSnapshotRequest,
        RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest,
        snapshots_client::SnapshotsClient,
    },
    types::Mount,
};
use gantry_client::Client;
use tonic::{Code, Status, transport::Channel};

use crate::{
    containerd::{LARGEST_MESSAGE, about, failed, leased},
    failure::Failure,
    leases::Lease,
};

/// What clients of containerd take if nobody has said anything.
const DEFAULT: &str = "overlayfs";

/// The label of a namespace that says otherwise.
const DEFAULT_LABEL: &str = "containerd.io/defaults/snapshotter";

/// The snapshots of one snapshotter in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    channel: Channel,
    namespace: String,
    snapshotter: String,
}

/// Something that was made, or was there already.
#[derive(Debug)]
pub(crate) enum Made<T> {
    New(T),
    Before,
}

impl Snapshots {
    pub(crate) fn of(client: &Client, namespace: &str, snapshotter: &str) -> Snapshots {
        let (namespace, snapshotter) = (namespace.to_owned(), snapshotter.to_owned());
        Snapshots { channel: client.channel(), namespace, snapshotter }
    }

    /// Those of the snapshotter that a namespace uses by default.
    pub(crate) async fn by_default(client: &Client, namespace: &str) -> Result<Snapshots, Failure> {
        let mut namespaces = NamespacesClient::new(client.channel());
        let request = about(namespace, GetNamespaceRequest { name: namespace.to_owned() })?;
        let found = namespaces.get(request).await;
        let found =
            found.map_err(|status| failed(&format!("find namespace {namespace}"), &status))?;
        let mut labels = found.into_inner().namespace.unwrap_or_default().labels;
        let snapshotter = labels.remove(DEFAULT_LABEL).filter(|name| !name.is_empty());
        Ok(Snapshots::of(client, namespace, snapshotter.as_deref().unwrap_or(DEFAULT)))
    }

    fn client(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    pub(crate) async fn is_there(&self, key: &str) -> Result<bool, Failure> {
        let (snapshotter, key) = (self.snapshotter.clone(), key.to_owned());
        let request = StatSnapshotRequest { snapshotter, key: key.clone() };
        match self.client().stat(about(&self.namespace, request)?).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(failed(&format!("find snapshot {key}"), &status)),
        }
    }

    /// A new one that can be written to, on a parent if there is one; where it is to be mounted from.
    pub(crate) async fn prepare(
        &self,
        lease: &Lease,
        key: &str,
        parent: Option<&str>,
    ) -> Result<Vec<Mount>, Failure> {
        let prepared =
            self.ask_for(lease, key, parent.unwrap_or_default(), BTreeMap::new()).await?;
        prepared.map_err(|status| failed(&format!("prepare snapshot {key}"), &status))
    }

    /// A new one that is to be committed as `name`, unless that is there.
    pub(crate) async fn prepare_layer(
        &self,
        lease: &Lease,
        key: &str,
        parent: &str,
        name: &str,
    ) -> Result<Made<Vec<Mount>>, Failure> {
        let target = [("containerd.io/snapshot.ref".to_owned(), name.to_owned())].into();
        match self.ask_for(lease, key, parent, target).await? {
            Ok(mounts) => Ok(Made::New(mounts)),
            Err(status) if status.code() == Code::AlreadyExists => Ok(Made::Before),
            Err(status) => Err(failed(&format!("prepare snapshot {key}"), &status)),
        }
    }

    async fn ask_for(
        &self,
        lease: &Lease,
        key: &str,
        parent: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Result<Vec<Mount>, Status>, Failure> {
        let (snapshotter, parent) = (self.snapshotter.clone(), parent.to_owned());
        let request = PrepareSnapshotRequest { snapshotter, key: key.to_owned(), parent, labels };
        let answer = self.client().prepare(leased(&self.namespace, lease.id(), request)?).await;
        Ok(answer.map(|answer| answer.into_inner().mounts))
    }

    /// Makes an active one a parent for others.
    pub(crate) async fn commit(
        &self,
        lease: &Lease,
        key: &str,
        name: &str,
    ) -> Result<Made<()>, Failure> {
        let (snapshotter, key) = (self.snapshotter.clone(), key.to_owned());
        let name = name.to_owned();
        let request = CommitSnapshotRequest { snapshotter, key, name, ..Default::default() };
        let what = format!("commit snapshot {}", request.name);
        match self.client().commit(leased(&self.namespace, lease.id(), request)?).await {
            Ok(_) => Ok(Made::New(())),
            Err(status) if status.code() == Code::AlreadyExists => Ok(Made::Before),
            Err(status) => Err(failed(&what, &status)),
        }
    }

    /// Removes one; that it is not there is no error.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Failure> {
        let (snapshotter, key) = (self.snapshotter.clone(), key.to_owned());
        let what = format!("remove snapshot {key}");
        let request = RemoveSnapshotRequest { snapshotter, key };
        match self.client().remove(about(&self.namespace, request)?).await {
            Err(status) if status.code() != Code::NotFound => Err(failed(&what, &status)),
            _ => Ok(()),
        }
    }

    /// All of them.
    pub(crate) async fn list(&self) -> Result<Vec<Info>, Failure> {
        let what = format!("list the snapshots of {}", self.namespace);
        let request =
            ListSnapshotsRequest { snapshotter: self.snapshotter.clone(), filters: Vec::new() };
        let listed = self.client().list(about(&self.namespace, request)?).await;
        let mut stream = listed.map_err(|status| failed(&what, &status))?.into_inner();
        let mut found = Vec::new();
        while let Some(message) = stream.message().await.map_err(|status| failed(&what, &status))? {
            found.extend(message.info);
        }
        Ok(found)
    }

    /// How many bytes it has without its parents; none if it is gone.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, Failure> {
        let (snapshotter, key) = (self.snapshotter.clone(), key.to_owned());
        let what = format!("count snapshot {key}");
        let request = UsageRequest { snapshotter, key };
        match self.client().usage(about(&self.namespace, request)?).await {
            Ok(answer) => Ok(u64::try_from(answer.into_inner().size).ok()),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(&what, &status)),
        }
    }
}
