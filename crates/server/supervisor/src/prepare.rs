//! What a container is made from: the caller's request, and what its bundle says.

use std::{path::PathBuf, sync::Arc};

use gantry_domain::{ContainerId, Mount, Retention, Stdio};
use gantry_runtime::{
    bundle::{Bundle, Dialect},
    checkpoint::{self, CheckpointImage},
};

use crate::{
    Caller, IdempotencyKey, OwnImage, PipeOwner, Supervisor, SupervisorError,
    state_dir::RestoreRecord,
};

/// A container that is to be created, as its caller describes it.
#[derive(Debug)]
pub struct NewContainer {
    /// Who asked for it.
    pub caller: Caller,
    /// Of its namespace.
    pub id: ContainerId,
    /// An absolute path.
    pub bundle: PathBuf,
    /// Of its first process.
    pub stdio: Stdio,
    /// A name that is looked up in PATH, or an absolute path; empty for the server's default.
    pub runtime: String,
    /// Go before every sub-command of the runtime.
    pub runtime_args: Vec<String>,
    /// Kept as they are.
    pub labels: Arc<[String]>,
    /// With what its caller can repeat the request.
    pub idempotency: Option<Arc<IdempotencyKey>>,
    /// MS_MOVE instead of pivot_root(2), for a root file system in memory.
    pub no_pivot_root: bool,
    /// What to restore it from.
    pub checkpoint: Option<NamedCheckpoint>,
}

/// A checkpoint of a container.
#[derive(Debug)]
pub struct NamedCheckpoint {
    /// The directory of the checkpoint's own directory; `checkpoints` of the bundle if none is given.
    pub dir: Option<PathBuf>,
    /// One component of a path.
    pub name: String,
}

/// A container that can be made: its bundle has been read, and the checkpoint is there.
#[derive(Debug)]
pub struct PreparedContainer {
    pub(crate) new: NewContainer,
    pub(crate) bundle: Bundle,
    pub(crate) image: Option<CheckpointImage>,
    /// What its bundle is made of, if the server makes it: such a container is created and started in two
    /// steps, and kept until its caller deletes it.
    pub(crate) task: Option<TaskContent>,
}

/// What a task's bundle is made of.
#[derive(Debug)]
pub(crate) struct TaskContent {
    /// The content of config.json.
    pub(crate) config: Vec<u8>,
    /// What is mounted on its `rootfs`.
    pub(crate) rootfs: Vec<Mount>,
    /// See [`crate::TaskRuntime::no_new_keyring`].
    pub(crate) no_new_keyring: bool,
    /// See [`crate::TaskRuntime::pipe_owner`].
    pub(crate) pipe_owner: PipeOwner,
    /// What it is restored from when it is started.
    pub(crate) restore: Option<RestoreRecord>,
    /// The image of that, if it is to go with the task.
    pub(crate) image: Option<OwnImage>,
}

impl PreparedContainer {
    pub(crate) fn retention(&self) -> Retention {
        match self.task {
            Some(_) => Retention::UntilDeleted,
            None => Retention::UntilExit,
        }
    }

    /// What it is restored from when it is started, if it is.
    pub(crate) fn restore(&self) -> Option<&RestoreRecord> {
        self.task.as_ref()?.restore.as_ref()
    }

    /// How many bytes of the bundle's config.json are held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bundle.memory()
    }
}

impl Supervisor {
    /// Reads what a container is to be made from.
    ///
    /// # Errors
    /// If the bundle or the checkpoint cannot be read.
    pub async fn prepare(&self, new: NewContainer) -> Result<PreparedContainer, SupervisorError> {
        let services = &self.0.services;
        let named =
            if new.runtime.is_empty() { &services.settings.default_runtime } else { &new.runtime };
        let dialect = Dialect::of_runtime(named);
        let bundle =
            Bundle::open(&services.disks, &new.bundle, new.stdio.clone(), dialect).await??;
        let image = match &new.checkpoint {
            Some(NamedCheckpoint { dir, name }) => {
                let dir =
                    dir.clone().unwrap_or_else(|| bundle.path().join(checkpoint::DEFAULT_DIR));
                Some(CheckpointImage::find(&services.disks, &dir, name).await?)
            }
            None => None,
        };
        Ok(PreparedContainer { new, bundle, image, task: None })
    }
}
