//! Containers of containerd's API that `gantry run IMAGE` has made: records that keep a snapshot, with a task while
//! something runs.

use std::{fs, path::Path};

use gantry_api::containerd::{
    containers::{
        Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest,
        ListContainersRequest, containers_client::ContainersClient,
    },
    task_types,
};
use gantry_client::Client;
use tonic::{Code, transport::Channel};

use crate::{
    bundles::TaskDir,
    containerd::{LARGEST_MESSAGE, about, failed},
    execs,
    failure::Failure,
    snapshots::Snapshots,
    tasks::Task,
};

/// The label of a container and of a lease with the directory of its pipes. Who works on the container has locked it.
pub(crate) const DIRECTORY: &str = "gantry.run/directory";

/// The label of a container that is to be removed when its program has ended.
pub(crate) const REMOVE: &str = "gantry.run/remove";

/// The label of a container with the file that its output goes to.
pub(crate) const LOG: &str = "gantry.run/log";

/// What clients of containerd call the label of the signal that an image wants to be stopped with.
pub(crate) const STOP_SIGNAL: &str = "io.containerd.image.config.stop-signal";

/// The containers of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    pub(crate) client: Client,
    namespace: String,
}

impl Containers {
    pub(crate) fn of(client: &Client, namespace: &str) -> Containers {
        Containers { client: client.clone(), namespace: namespace.to_owned() }
    }

    fn client(&self) -> ContainersClient<Channel> {
        let client = ContainersClient::new(self.client.channel());
        client.max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// An error if there is a container of this id.
    pub(crate) async fn refuse(&self, id: &str) -> Result<(), Failure> {
        match self.find(id).await? {
            Some(_) => Err(exists(id)),
            None => Ok(()),
        }
    }

    pub(crate) async fn create(&self, container: Container) -> Result<(), Failure> {
        let id = container.id.clone();
        let request =
            about(&self.namespace, CreateContainerRequest { container: Some(container) })?;
        match self.client().create(request).await {
            Err(status) if status.code() == Code::AlreadyExists => Err(exists(&id)),
            Err(status) => Err(failed(&format!("create container {id}"), &status)),
            Ok(_) => Ok(()),
        }
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<Container>, Failure> {
        let request = about(&self.namespace, GetContainerRequest { id: id.to_owned() })?;
        match self.client().get(request).await {
            Ok(answer) => Ok(answer.into_inner().container),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(&format!("find container {id}"), &status)),
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Container>, Failure> {
        let what = format!("list the containers of {}", self.namespace);
        let request = about(&self.namespace, ListContainersRequest::default())?;
        let listed = self.client().list_stream(request).await;
        let mut stream = listed.map_err(|status| failed(&what, &status))?.into_inner();
        let mut found = Vec::new();
        while let Some(message) = stream.message().await.map_err(|status| failed(&what, &status))? {
            found.extend(message.container);
        }
        Ok(found)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn task(&self, id: &str) -> Task {
        Task::of(&self.client, &self.namespace, id)
    }

    /// Removes a container that has no task: its record first, as the snapshot is the record's.
    pub(crate) async fn remove(&self, container: &Container) -> Result<(), Failure> {
        let id = &container.id;
        let request = about(&self.namespace, DeleteContainerRequest { id: id.clone() })?;
        match self.client().delete(request).await {
            Err(status) if status.code() != Code::NotFound => {
                return Err(failed(&format!("remove container {id}"), &status));
            }
            _ => execs::forget_all(&self.namespace, id),
        }
        if container.snapshot_key.is_empty() {
            return Ok(());
        }
        let snapshots = Snapshots::of(&self.client, &self.namespace, &container.snapshotter);
        snapshots.remove(&container.snapshot_key).await
    }

    /// Does what is to be done at the end of a container whose directory this command has locked, and whose task is deleted.
    pub(crate) async fn clean_up(&self, container: &Container) -> Result<(), Failure> {
        if container.labels.contains_key(REMOVE) {
            self.remove(container).await?;
        }
        execs::forget_all(&self.namespace, &container.id);
        let dir = TaskDir::of(&self.namespace, &container.id);
        fs::remove_dir_all(&dir).map_err(|e| Failure::io(dir.display(), &e))
    }

    /// Removes the containers that were to be removed at their end, if that has come. Failing to is no reason to stop.
    pub(crate) async fn sweep(&self) {
        let Ok(containers) = self.list().await else { return };
        for container in containers.iter().filter(|it| it.labels.contains_key(REMOVE)) {
            if let Err(failure) = self.remove_if_ended(container).await {
                failure.warn();
            }
        }
    }

    /// Removes a container that `gantry run` has made, unless it runs or a command works on it. Whether it did.
    pub(crate) async fn remove_if_ended(&self, container: &Container) -> Result<bool, Failure> {
        // What runs is not even locked: somebody may want to attach to it.
        if !self.is_own(container) || !self.has_ended(&container.id).await? {
            return Ok(false);
        }
        let Some(dir) = TaskDir::claim_unused(&self.namespace, &container.id)? else {
            return Ok(false);
        };
        if !self.has_ended(&container.id).await? {
            return Ok(false);
        }
        self.task(&container.id).delete().await?;
        self.remove(container).await?;
        dir.remove()?;
        Ok(true)
    }

    /// Removes a container, whoever has made it; one that runs only if it may be killed.
    pub(crate) async fn remove_any(
        &self,
        container: &Container,
        may_kill: bool,
    ) -> Result<(), Failure> {
        let id = &container.id;
        if !self.has_ended(id).await? {
            if !may_kill {
                return Err(Failure::new(format!("container {id} runs: -f kills it")));
            }
            self.task(id).destroy().await?;
        }
        self.task(id).delete().await?;
        self.remove(container).await?;
        // A command that is attached removes it itself.
        if self.is_own(container)
            && let Some(dir) = TaskDir::claim_unused(&self.namespace, id)?
        {
            dir.remove()?;
        }
        Ok(())
    }

    /// Whether this user's `gantry run` has made it.
    pub(crate) fn is_own(&self, container: &Container) -> bool {
        let dir = TaskDir::of(&self.namespace, &container.id);
        container.labels.get(DIRECTORY).is_some_and(|of| Path::new(of) == dir)
    }

    /// Whether nothing runs in a container.
    pub(crate) async fn has_ended(&self, id: &str) -> Result<bool, Failure> {
        let found = self.task(id).get().await?;
        Ok(found.is_none_or(|process| process.status() == task_types::Status::Stopped))
    }
}

fn exists(id: &str) -> Failure {
    Failure::new(format!("container {id} exists already: `gantry rm {id}` removes it"))
}
