//! Checkpoints of a container: its state on disk, written by CRIU.

use std::{path::Path, time::Duration};

use gantry_api::types;

use crate::{call::Operation, connection::Api, container::Container, error::Result, wire};

/// Writing gigabytes of memory takes its time.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(15 * 60);

impl Container {
    /// Writes a checkpoint into `dir`, or into `<bundle>/checkpoints`.
    pub async fn checkpoint(
        &self,
        checkpoint: types::Checkpoint,
        dir: Option<&Path>,
    ) -> Result<()> {
        let name = format!("checkpoint container {} as {}", self.id(), checkpoint.name);
        let request = types::CreateCheckpointRequest {
            id: self.id().to_owned(),
            checkpoint: Some(checkpoint),
            checkpoint_dir: optional_path(dir)?,
        };
        let operation = Operation::once(name).within(CHECKPOINT_DEADLINE);
        let create = |mut api: Api, request| async move { api.create_checkpoint(request).await };
        self.connection().call(operation, request, create).await.map(drop)
    }

    /// Its checkpoints in `dir`, or in `<bundle>/checkpoints`.
    pub async fn checkpoints(&self, dir: Option<&Path>) -> Result<Vec<types::Checkpoint>> {
        let request = types::ListCheckpointRequest {
            id: self.id().to_owned(),
            checkpoint_dir: optional_path(dir)?,
        };
        let name = format!("list the checkpoints of container {}", self.id());
        let list = |mut api: Api, request| async move { api.list_checkpoint(request).await };
        let listed = self.connection().call(Operation::repeatable(name), request, list).await?;
        Ok(listed.checkpoints)
    }

    /// Removes a checkpoint from `dir`, or from `<bundle>/checkpoints`.
    pub async fn delete_checkpoint(&self, name: &str, dir: Option<&Path>) -> Result<()> {
        let request = types::DeleteCheckpointRequest {
            id: self.id().to_owned(),
            name: name.to_owned(),
            checkpoint_dir: optional_path(dir)?,
        };
        let name = format!("delete checkpoint {name} of container {}", self.id());
        let delete = |mut api: Api, request| async move { api.delete_checkpoint(request).await };
        self.connection().call(Operation::once(name), request, delete).await.map(drop)
    }
}

fn optional_path(dir: Option<&Path>) -> Result<String> {
    dir.map_or(Ok(String::new()), wire::path)
}
