//! Makes, lists and removes checkpoints of a container in its caller's directory.

use std::path::PathBuf;

use gantry_runtime::checkpoint::{self, CheckpointConfig};

use crate::{ContainerHandle, NamedCheckpoint, Supervisor, SupervisorError};

impl Supervisor {
    /// Makes a checkpoint of a running container; see [`checkpoint::create`].
    ///
    /// # Errors
    /// If the container does not run, or the runtime or CRIU cannot do it.
    pub async fn checkpoint(
        &self,
        container: &ContainerHandle,
        dir: Option<PathBuf>,
        config: CheckpointConfig,
    ) -> Result<(), SupervisorError> {
        let dir = checkpoints_of(container, dir).await?;
        container.checkpoint(dir, config).await
    }

    /// The checkpoints of a container.
    ///
    /// # Errors
    /// If their directory cannot be read. One that is not there has none.
    pub async fn checkpoints(
        &self,
        container: &ContainerHandle,
        dir: Option<PathBuf>,
    ) -> Result<Vec<CheckpointConfig>, SupervisorError> {
        let dir = checkpoints_of(container, dir).await?;
        Ok(checkpoint::list(&self.0.services.disks, &dir).await?)
    }

    /// Removes a checkpoint, and nothing that is not one.
    ///
    /// # Errors
    /// If the checkpoint is not there, is not a checkpoint, or cannot be removed.
    pub async fn delete_checkpoint(
        &self,
        container: &ContainerHandle,
        named: NamedCheckpoint,
    ) -> Result<(), SupervisorError> {
        let dir = checkpoints_of(container, named.dir).await?;
        Ok(checkpoint::delete(&self.0.services.disks, &dir, &named.name).await?)
    }
}

async fn checkpoints_of(
    container: &ContainerHandle,
    dir: Option<PathBuf>,
) -> Result<PathBuf, SupervisorError> {
    // Also for a directory of the caller's own: the container has to be there.
    let bundle = container.view().await?.bundle;
    Ok(dir.unwrap_or_else(|| bundle.join(checkpoint::DEFAULT_DIR)))
}
