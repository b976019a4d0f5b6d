//! Tasks: containers that their caller creates, starts and deletes in steps of their own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_disk::DiskError;
use gantry_domain::{ContainerId, ContainerKey, Mount, Namespace, ProcessId, Retention, Stdio};
use gantry_failpoints::{Point, reach};
use gantry_kernel::mount::{MountError, UnmountError, mount_all, unmount_all};
use gantry_runtime::bundle::{Bundle, Dialect};
use serde::{Deserialize, Serialize};

use crate::{
    Caller, ContainerHandle, IdempotencyKey, NewContainer, OwnImage, PreparedContainer,
    ProcessView, Services, Supervisor, SupervisorError,
    prepare::TaskContent,
    remains::Remaining,
    state_dir::{RestoreRecord, TaskBundle},
};

/// A task that is to be created. The server makes its bundle.
#[derive(Debug)]
pub struct NewTask {
    /// Who asked for it.
    pub caller: Caller,
    /// Of its namespace.
    pub id: ContainerId,
    /// What is written to config.json, as it is.
    pub spec: Vec<u8>,
    /// What is mounted on the bundle's `rootfs`, in this order.
    pub rootfs: Vec<Mount>,
    /// With what its caller can repeat the request.
    pub idempotency: Option<Arc<IdempotencyKey>>,
    /// Of its container, each as `key=value`.
    pub labels: Arc<[String]>,
    /// Of its first process.
    pub stdio: Stdio,
    /// Whether its first process has a terminal.
    pub terminal: bool,
    /// The runtime.
    pub runtime: TaskRuntime,
    /// What it is restored from, in place of the image of the runtime's options; removed with the task.
    pub image: Option<OwnImage>,
}

/// The runtime of a task, and its options.
#[derive(Debug, Default)]
pub struct TaskRuntime {
    /// A name that is looked up in PATH, or an absolute path; empty for the server's default.
    pub program: String,
    /// Where the runtime keeps its containers: a directory for each namespace in it. A directory of the
    /// server's if none is given.
    pub root: Option<PathBuf>,
    /// cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// MS_MOVE instead of pivot_root(2), for a root file system in memory.
    pub no_pivot_root: bool,
    /// The process shares its creator's session keyring.
    pub no_new_keyring: bool,
    /// Of the stdio pipes of the task's processes.
    pub pipe_owner: PipeOwner,
    /// The directory of the image that the first process is restored from when it is started.
    pub criu_image: Option<PathBuf>,
    /// For CRIU's logs of the restore; the bundle has room for them.
    pub criu_work: Option<PathBuf>,
}

/// Who is to own a pipe: root of a container's user namespace, to be able to open `/proc/self/fd/1`. The owner is not
/// changed if both are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeOwner {
    /// On the host.
    pub uid: u32,
    /// On the host.
    pub gid: u32,
}

impl PipeOwner {
    pub(crate) fn is_unchanged(&self) -> bool {
        *self == Self::default()
    }
}

impl TaskRuntime {
    /// What goes before every sub-command of the runtime. Two namespaces never share a root.
    fn args(&self, default_root: PathBuf, namespace: &Namespace) -> Vec<String> {
        let root = self.root.clone().unwrap_or(default_root).join(namespace.name());
        let mut args = vec!["--root".to_owned(), root.to_string_lossy().into_owned()];
        args.extend(self.systemd_cgroup.then(|| "--systemd-cgroup".to_owned()));
        args
    }
}

impl Supervisor {
    /// For who has much to do before a task is created: [`Supervisor::create_task`] asks again.
    ///
    /// # Errors
    /// If the id is taken, unless by what is being removed.
    pub fn require_free(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<(), SupervisorError> {
        let key = ContainerKey { namespace: namespace.clone(), id: id.clone() };
        match self.0.services.registry.lock().get(&key) {
            Some(holder) if !holder.half_made => Err(SupervisorError::ContainerTaken(key.id)),
            _ => Ok(()),
        }
    }

    /// Creates a task, whose first process then waits to be started, or to be restored from an image. After an
    /// error, nothing of it is left.
    ///
    /// # Errors
    /// If the id is taken, the runtime cannot create the container, or there is no image.
    pub async fn create_task(
        &self,
        namespace: Namespace,
        new: NewTask,
    ) -> Result<ProcessView, SupervisorError> {
        let services = &self.0.services;
        let runtime_args = new.runtime.args(services.state.runtime_root(), &namespace);
        let key = ContainerKey { namespace: namespace.clone(), id: new.id.clone() };
        let path = services.state.bundle(&key, None).path().to_owned();
        let program = &new.runtime.program;
        let named = if program.is_empty() { &services.settings.default_runtime } else { program };
        let (stdio, dialect) = (new.stdio.clone(), Dialect::of_runtime(named));
        let bundle = Bundle::to_be(path.clone(), &new.spec, stdio, new.terminal, dialect);
        let restore = self.restore_of(&new.runtime, new.image.as_ref(), &bundle).await?;
        let prepared = PreparedContainer {
            new: NewContainer {
                caller: new.caller,
                id: new.id,
                bundle: path,
                stdio: new.stdio,
                runtime: new.runtime.program,
                runtime_args,
                labels: new.labels,
                idempotency: new.idempotency,
                no_pivot_root: new.runtime.no_pivot_root,
                checkpoint: None,
            },
            bundle,
            image: None,
            task: Some(TaskContent {
                config: new.spec,
                rootfs: new.rootfs,
                no_new_keyring: new.runtime.no_new_keyring,
                pipe_owner: new.runtime.pipe_owner,
                restore,
                image: new.image,
            }),
        };
        let view = self.create(namespace, prepared).await?;
        view.processes.into_iter().next().ok_or(SupervisorError::Bug)
    }

    /// Runs the first process of a created task, or a further one that was added; its pid on the host.
    ///
    /// # Errors
    /// If it was started before, the container does not run, or the runtime cannot start it.
    pub async fn start_process(
        &self,
        container: &ContainerHandle,
        process: ProcessId,
        caller: Caller,
    ) -> Result<u32, SupervisorError> {
        let _permit = self.admit()?;
        container.start(process, caller).await
    }
}

impl Services {
    /// The bundle of a container, if the server makes it.
    pub(crate) fn own_bundle(
        &self,
        key: &ContainerKey,
        retention: Retention,
        restore: Option<&RestoreRecord>,
    ) -> Option<TaskBundle> {
        let image = restore.and_then(RestoreRecord::own_image).map(Path::to_owned);
        (retention == Retention::UntilDeleted).then(|| self.state.bundle(key, image))
    }

    /// Makes a task's bundle, and mounts its root file system.
    pub(crate) async fn make_bundle(
        &self,
        bundle: &TaskBundle,
        content: &TaskContent,
    ) -> Result<(), SupervisorError> {
        // Of an earlier task: what is mounted in the bundle must not be removed with it.
        let earlier = bundle.clone();
        if self.state.run(move |_, wait| earlier.is_there(wait)).await {
            self.unmount_all_in(bundle.path()).await??;
            let earlier = bundle.clone();
            self.state.run(move |_, wait| earlier.remove(wait)).await?;
        }
        let (made, config) = (bundle.clone(), content.config.clone());
        self.state.run(move |_, wait| made.create(&config, wait)).await?;
        if content.rootfs.is_empty() {
            return Ok(());
        }
        // It is the mounted file systems that may not answer.
        let sources = content.rootfs.iter().map(|mount| Path::new(&mount.source));
        let place = sources.into_iter().find(|source| source.is_absolute());
        let (mounts, rootfs) = (content.rootfs.clone(), bundle.rootfs());
        let mount = move |_: &Path| Mounted::new(&mounts, rootfs);
        let what = "mount the root file system from";
        let mounted = self.disks.run(what, place.unwrap_or(bundle.path()), mount).await?;
        mounted?.keep();
        Ok(())
    }

    /// Unmounts a task's root file system, and removes its image and its bundle. All may be gone.
    pub(crate) async fn remove_bundle(&self, bundle: &TaskBundle) -> Result<(), Remaining> {
        self.unmount_all_in(bundle.path())
            .await
            .map_err(Remaining::Disk)?
            .map_err(Remaining::Mounts)?;
        reach(Point::ServerUnmounted);
        if let Some(image) = bundle.image() {
            self.images.remove(image.to_owned()).await.map_err(Remaining::Image)?;
        }
        let bundle = bundle.clone();
        self.state.run(move |_, wait| bundle.remove(wait)).await.map_err(Remaining::Bundle)
    }

    /// Unmounts all that is mounted in a directory; there may be nothing.
    pub(crate) async fn unmount_all_in(
        &self,
        path: &Path,
    ) -> Result<Result<(), UnmountError>, DiskError> {
        self.disks.run("unmount what is in", path, unmount_all).await
    }
}

/// A root file system that was mounted. It is unmounted when this is dropped, unless it is kept: the caller may have
/// given up meanwhile.
struct Mounted(Option<PathBuf>);

impl Mounted {
    fn new(mounts: &[Mount], rootfs: PathBuf) -> Result<Self, MountError> {
        mount_all(mounts, &rootfs).map(|()| Self(Some(rootfs)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(rootfs) = self.0.take()
            && let Err(error) = unmount_all(&rootfs)
        {
            tracing::warn!(%error, "a root file system that nobody waits for stays mounted until its task is removed");
        }
    }
}
