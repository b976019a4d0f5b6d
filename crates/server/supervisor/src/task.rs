//! Tasks: containers that their caller creates, starts and deletes in steps of their own.

use std::path::PathBuf;

use gantry_domain::{ContainerId, Mount, Namespace, ProcessId, Stdio};

use crate::{Caller, ContainerHandle, ProcessView, Supervisor, SupervisorError};

/// A task that is to be created. The server makes its bundle.
#[derive(Debug)]
pub struct NewTask {
    /// Who wants it.
    pub caller: Caller,
    /// Of its namespace.
    pub id: ContainerId,
    /// What is written to config.json, as it is.
    pub spec: Vec<u8>,
    /// What is mounted on the bundle's `rootfs`, in this order.
    pub rootfs: Vec<Mount>,
    /// Of its first process.
    pub stdio: Stdio,
    /// Whether its first process has a terminal.
    pub terminal: bool,
    /// What it is run by.
    pub runtime: TaskRuntime,
}

/// What a task is run by.
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
    /// The process has its creator's session keyring.
    pub no_new_keyring: bool,
}

impl Supervisor {
    /// Creates a task, whose first process then waits to be started. After an error, nothing of it is left.
    ///
    /// # Errors
    /// If the id is taken, or the runtime cannot create the container.
    pub async fn create_task(
        &self,
        namespace: Namespace,
        new: NewTask,
    ) -> Result<ProcessView, SupervisorError> {
        let _ = (namespace, new);
        Err(SupervisorError::Bug)
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
