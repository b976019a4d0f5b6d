//! The records of containers and processes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::{
    ContainerId, ContainerKey, Exit, Generation, Labels, Namespace, ProcessSpec, Retention,
};
use gantry_kernel::{Program, cgroup::Cgroup};
use gantry_runtime::RuntimeRecord;
use serde::{Deserialize, Serialize};

use crate::{IdempotencyKey, PipeOwner};

const VERSION: u32 = 1;

/// The record of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    version: u32,
    /// Missing for that of `types.API`, which earlier versions alone knew.
    #[serde(default = "types_api", skip_serializing_if = "Namespace::is_types_api")]
    namespace: Namespace,
    pub id: ContainerId,
    #[serde(rename = "life")]
    pub generation: Generation,
    pub bundle: PathBuf,
    /// As the caller named it; empty for the server's default.
    pub runtime: String,
    pub runtime_args: Vec<String>,
    /// The runtime that these meant when the container was made, which has the container whatever the server's
    /// defaults are by now. Earlier versions did not record it.
    #[serde(default)]
    pub made_with: Option<RuntimeRecord>,
    pub labels: Arc<[String]>,
    /// They are too long for a record that is written often, and left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_left_out: bool,
    /// What its caller can repeat the request with that has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Arc<IdempotencyKey>>,
    /// Unknown until the runtime has made it, where the spec does not determine it.
    pub cgroup: Option<Cgroup>,
    /// It has a pid namespace of its own, with whose first process the kernel ends all others.
    #[serde(default)]
    pub pid_namespace: bool,
    /// The bundle's capabilities are a plain list, and so are those of its execs.
    #[serde(default)]
    pub capability_list: bool,
    /// As the spec has it.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// Of its processes' stdio.
    #[serde(default, skip_serializing_if = "PipeOwner::is_unchanged")]
    pub pipe_owner: PipeOwner,
    /// Whether `pause` was the last of the journalled pause and resume events.
    pub paused: bool,
    /// Out-of-memory kills that were reported.
    #[serde(default)]
    pub oom_kills: u64,
    /// How long it is kept. Earlier versions knew those of `types.API` only.
    #[serde(default, skip_serializing_if = "is_until_exit")]
    pub retention: Retention,
    /// Its start was published, where that is a step after its creation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
    /// What its first process is restored from when it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreRecord>,
    /// What its first process executes until it is started, where that is a step after its creation: the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_in: Option<Program>,
    /// When the server began to make it, or to restore it, in clock ticks since boot. Earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<u64>,
    /// When that had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
}

/// What a task is restored from. Nothing of it runs before it is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// The directory of the image.
    pub image: PathBuf,
    /// The server has made it for the task, and removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owned: bool,
    /// For CRIU's logs.
    pub work: PathBuf,
    pub no_pivot_root: bool,
    /// Of the first process, which has no shim yet.
    pub init: ProcessSpec,
    /// The creation was published.
    #[serde(rename = "told")]
    pub published: bool,
}

impl RestoreRecord {
    /// The image, if it goes with the task.
    pub(crate) fn own_image(&self) -> Option<&Path> {
        self.owned.then_some(&*self.image)
    }
}

/// The record of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessRecord {
    version: u32,
    #[serde(rename = "life")]
    pub generation: Generation,
    pub spec: ProcessSpec,
    /// Its exit, once that was published, of a process that is kept until its caller deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_until_exit(retention: &Retention) -> bool {
    *retention == Retention::UntilExit
}

fn types_api() -> Namespace {
    Namespace::TYPES_API
}

impl ContainerRecord {
    /// The first process as it is known of a task that was created, and restored when it is started.
    pub(crate) fn waits_for_restore(&self) -> Option<ProcessRecord> {
        let restore = self.restore.as_ref().filter(|restore| restore.published)?;
        Some(ProcessRecord::new(self.generation, restore.init.clone()))
    }

    /// What events have of the labels.
    pub(crate) fn event_labels(&self) -> Labels {
        if self.labels_left_out { Labels::TooLong } else { Labels::of(&self.labels) }
    }

    /// Whose record it is.
    pub(crate) fn key(&self) -> ContainerKey {
        ContainerKey { namespace: self.namespace.clone(), id: self.id.clone() }
    }

    pub fn new(key: &ContainerKey, generation: Generation, bundle: PathBuf) -> Self {
        Self {
            version: VERSION,
            namespace: key.namespace.clone(),
            id: key.id.clone(),
            generation,
            bundle,
            runtime: String::new(),
            runtime_args: Vec::new(),
            made_with: None,
            labels: Arc::default(),
            labels_left_out: false,
            idempotency: None,
            cgroup: None,
            pid_namespace: false,
            capability_list: false,
            oom_score_adj: None,
            pipe_owner: PipeOwner::default(),
            paused: false,
            oom_kills: 0,
            retention: Retention::UntilExit,
            started: false,
            restore: None,
            waits_in: None,
            begun_at: None,
            failed_at: None,
        }
    }

    /// Whether a process that started at this time, in clock ticks since boot, did so while the server tried, in vain,
    /// to make the container.
    pub(crate) fn was_tried_at(&self, time: u64) -> bool {
        let (Some(begin), Some(end)) = (self.begun_at, self.failed_at) else { return false };
        (begin..=end).contains(&time)
    }
}

impl ProcessRecord {
    pub fn new(generation: Generation, spec: ProcessSpec) -> Self {
        Self { version: VERSION, generation, spec, exit: None }
    }
}
