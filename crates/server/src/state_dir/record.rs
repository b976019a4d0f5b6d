//! What is kept of containers and processes.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    domain::{ContainerId, Life, ProcessSpec},
    oci::RootVariables,
};

const VERSION: u32 = 1;

/// A container as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    version: u32,
    pub(crate) id: ContainerId,
    pub(crate) life: Life,
    pub(crate) bundle: PathBuf,
    /// As the caller named it; empty for the server's default.
    pub(crate) runtime: String,
    pub(crate) runtime_args: Vec<String>,
    /// The runtime that these meant when the container was made: it belongs to that one, whatever the
    /// server's defaults are by now. Earlier versions did not write it down.
    #[serde(default)]
    pub(crate) made_with: Option<MadeWith>,
    pub(crate) labels: Arc<[String]>,
    /// Unknown until the runtime has made it, where it cannot be told from the spec.
    pub(crate) cgroup: Option<Cgroup>,
    /// It has a pid namespace of its own, with whose first process the kernel ends all others.
    #[serde(default)]
    pub(crate) pid_namespace: bool,
    /// The bundle's capabilities are a plain list, and so are those of execs to be.
    #[serde(default)]
    pub(crate) capability_list: bool,
    /// As the spec has it.
    #[serde(default)]
    pub(crate) oom_score_adj: Option<i32>,
    /// Whether `pause` was the last of the journalled pause and resume events.
    pub(crate) paused: bool,
    /// Out-of-memory kills that were reported.
    #[serde(default)]
    pub(crate) oom_kills: u64,
}

/// A runtime as it was found, and all arguments that go before its sub-commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeWith {
    /// As it is told by State.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// What its root depends on where the arguments name none. Earlier versions did not write it down.
    #[serde(default)]
    pub(crate) variables: Option<RootVariables>,
}

/// A process as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    version: u32,
    pub(crate) life: Life,
    pub(crate) spec: ProcessSpec,
}

impl ContainerRecord {
    pub(crate) fn new(id: ContainerId, life: Life, bundle: PathBuf) -> Self {
        Self {
            version: VERSION,
            id,
            life,
            bundle,
            runtime: String::new(),
            runtime_args: Vec::new(),
            made_with: None,
            labels: Arc::default(),
            cgroup: None,
            pid_namespace: false,
            capability_list: false,
            oom_score_adj: None,
            paused: false,
            oom_kills: 0,
        }
    }
}

impl ProcessRecord {
    pub(crate) fn new(life: Life, spec: ProcessSpec) -> Self {
        Self { version: VERSION, life, spec }
    }
}
