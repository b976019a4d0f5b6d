//! Containers: one task for each owns its state, and a registry maps ids to tasks.
//!
//! Nothing here knows of any one API, and no container ever waits for another.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod actor;
mod attach;
mod boot;
mod calls;
mod checkpoints;
mod create;
mod ended_execs;
mod error;
mod evidence;
mod exec;
mod exit;
mod features;
mod find;
mod half_made;
mod handle;
mod idempotency;
mod inspect;
mod kill;
mod kind;
mod last_known;
mod launch;
mod left_cgroups;
mod listing;
mod measures;
mod message;
mod metrics;
mod neighbours;
mod oom;
mod operation;
mod own_images;
mod ownership;
mod pending;
mod prepare;
mod reattach;
mod recovered_state;
mod registry;
mod remains;
mod removed;
mod requests;
mod restore;
mod running_process;
mod services;
mod shim_link;
mod shim_pool;
mod state_dir;
mod stats;
mod task;
mod teardown;
mod turns;
mod unfinished;
mod usage;
mod waiters;

use std::collections::BTreeSet;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

pub use attach::{Attachment, OutputStream, Piece, Stdin};
pub use error::SupervisorError;
pub use evidence::FirstProcess;
use gantry_domain::{ContainerId, ContainerKey, Namespace, ProcessSpec};
use gantry_events::EventLog;
pub use gantry_runtime::checkpoint::{CheckpointConfig, ImageOptions};
pub use handle::{ContainerHandle, ContainerView, DeletedProcess, NewLimits, ProcessView};
pub use idempotency::IdempotencyKey;
pub use listing::Listed;
pub use measures::{MeasuredContainers, MeasuredReattachment, Outcome, SupervisorMeasures};
pub use metrics::ContainerMetrics;
pub use own_images::OwnImage;
pub use ownership::NotOurs;
pub use prepare::{NamedCheckpoint, NewContainer, PreparedContainer};
use services::Services;
pub use services::{OnShimDeath, Settings, StartError};
pub use shim_link::ShimProgram;
pub use state_dir::{StateDir, StateError};
pub use stats::ContainerStats;
pub use task::{NewTask, PipeOwner, TaskRuntime};
use tokio::sync::Notify;
pub use turns::MeasuredTurns;
pub use usage::ContainerUsage;

/// The connection of a request, for fair queueing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// The types of a container's limits and statistics.
pub mod resources {
    pub use gantry_kernel::{
        cgroup::{
            BlkioEntry, BlkioStats, CgroupMetrics, CgroupStats, CpuStats, DeviceLimit,
            DeviceLimitKind, DirectLimits, HugetlbStats, IoEntry, MemoryData, MemoryEvents,
            MemoryOomControl, MemoryStats, PidsStats, Pressure, PressureLine, RdmaEntry, RdmaStats,
            Usage, V1Metrics, V2Cpu, V2Hugetlb, V2Io, V2Memory, V2Metrics,
        },
        net_dev::Interface,
    };
}

/// The containers of the server.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    services: Arc<Services>,
    draining: AtomicBool,
    /// Launches under way, which a stopping server lets finish.
    launches: AtomicUsize,
    launch_ended: Notify,
}

impl Supervisor {
    /// Opens the state directory, and takes over the containers that are in it.
    ///
    /// # Errors
    /// If the journal cannot be read or written, or the system does not provide what every container
    /// needs. A container that cannot be taken over is no error.
    pub async fn start(settings: Settings, state: StateDir) -> Result<Self, StartError> {
        let services = Services::open(settings, state).await?;
        let supervisor = Self(Arc::new(Shared {
            services: Arc::new(services),
            draining: AtomicBool::new(false),
            launches: AtomicUsize::new(0),
            launch_ended: Notify::new(),
        }));
        let services = Arc::clone(&supervisor.0.services);
        tokio::spawn(async move { services.state.keep_trash_empty().await });
        supervisor.reattach().await;
        Ok(supervisor)
    }

    /// The log of all events.
    pub fn events(&self) -> &EventLog {
        &self.0.services.events
    }

    /// # Errors
    /// If there is none, or only one that is being removed and whose start was not published.
    pub fn container(
        &self,
        namespace: Namespace,
        id: ContainerId,
    ) -> Result<ContainerHandle, SupervisorError> {
        let key = ContainerKey { namespace, id };
        let found = self.0.services.registry.lock().get(&key).cloned();
        found.filter(|handle| !handle.half_made).ok_or(SupervisorError::ContainerNotFound(key.id))
    }

    /// Takes the lock that every call needs, and releases it: shows that calls can be served.
    pub fn take_pulse(&self) {
        drop(self.0.services.registry.lock());
    }

    /// Those that have containers.
    pub fn namespaces(&self) -> BTreeSet<Namespace> {
        let registry = self.0.services.registry.lock();
        registry.keys().map(|key| key.namespace.clone()).collect()
    }

    /// All containers, in the order of their ids.
    pub fn containers(&self, namespace: &Namespace) -> Vec<ContainerHandle> {
        let mut found: Vec<ContainerHandle> = self
            .0
            .services
            .registry
            .lock()
            .values()
            .filter(|handle| handle.key.namespace == *namespace && !handle.half_made)
            .cloned()
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Refuses new containers and execs, and waits for launches in flight. Running containers stay.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.services.turns.close();
        loop {
            let ended = self.0.launch_ended.notified();
            if self.0.launches.load(Ordering::SeqCst) == 0 {
                break;
            }
            ended.await;
        }
        if !self.0.services.events.flush().await {
            tracing::error!("events could not be journalled; the next server reports them again");
        }
    }

    /// Starts a further process in a container; its pid on the host.
    ///
    /// # Errors
    /// If the container is not there or does not run, or the runtime cannot start the process.
    pub async fn exec(
        &self,
        namespace: Namespace,
        id: ContainerId,
        spec: ProcessSpec,
        caller: Caller,
    ) -> Result<u32, SupervisorError> {
        let _permit = self.admit()?;
        self.container(namespace, id)?.exec(spec, caller).await
    }

    /// Counts a launch, unless the server is stopping.
    pub(crate) fn admit(&self) -> Result<LaunchPermit, SupervisorError> {
        self.0.launches.fetch_add(1, Ordering::SeqCst);
        let permit = LaunchPermit(self.clone());
        if self.0.draining.load(Ordering::SeqCst) {
            return Err(SupervisorError::Draining);
        }
        Ok(permit)
    }
}

/// A launch under way.
pub(crate) struct LaunchPermit(Supervisor);

impl Drop for LaunchPermit {
    fn drop(&mut self) {
        self.0.0.launches.fetch_sub(1, Ordering::SeqCst);
        self.0.0.launch_ended.notify_waiters();
    }
}
