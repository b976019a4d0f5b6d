//! Containers: one task for each owns its state, and a registry maps ids to tasks.
//!
//! Nothing here knows of any one API, and no container ever waits for another.

mod actor;
mod calls;
mod checkpoints;
mod clear;
mod create;
mod ended;
mod ending;
mod error;
mod exec;
mod find;
mod forget;
mod half_made;
mod handle;
mod kill;
mod kind;
mod launch;
mod left;
mod left_cgroups;
mod listing;
mod neighbours;
mod oom;
mod prepare;
mod process;
mod reattach;
mod remains;
mod requests;
mod seen;
pub mod shim_link;
mod spare;
pub mod state_dir;
mod stats;
mod turns;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use error::SupervisorError;
pub use forget::NotOurs;
use gantry_disk::Disks;
use gantry_domain::{ContainerId, ContainerKey, Life, Namespace, ProcessSpec};
use gantry_events::EventLog;
use gantry_kernel::{
    self,
    cgroup::{Hierarchies, Moves},
};
pub use gantry_runtime::checkpoint::CheckpointConfig;
use gantry_runtime::{OciError, OciRuntime, Runtimes};
pub use handle::{ContainerHandle, ContainerView, NewLimits};
pub use kind::Kind;
pub use left_cgroups::LeftCgroups;
pub use listing::Listed;
pub use prepare::{NamedCheckpoint, NewContainer, PreparedContainer};
pub use remains::Remains;
pub use spare::Shims;
pub use stats::ContainerStats;
use tokio::sync::Notify;
pub use turns::Turns;

use crate::state_dir::{ContainerRecord, StateDir};

/// What to do with a process whose shim has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShimDeath {
    /// It lives on, and its exit is still reported.
    Adopt,
    /// It is killed.
    Kill,
}

/// Who asks: connections, for which launches take turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// What an operator can choose.
#[derive(Debug, Clone)]
pub struct Settings {
    pub default_runtime: String,
    pub default_runtime_args: Vec<String>,
    /// How long the runtime may take to start a process.
    pub start_timeout: Duration,
    /// How long output that nobody has read stays readable after the exit.
    pub linger: Duration,
    pub on_shim_death: OnShimDeath,
}

/// What the tasks of all containers share.
pub struct Services {
    pub settings: Settings,
    pub state: StateDir,
    pub disks: Disks,
    pub events: EventLog,
    pub runtimes: Runtimes,
    pub shims: Arc<Shims>,
    pub hierarchies: Arc<Hierarchies>,
    pub moves: Moves,
    pub lives: Lives,
    pub registry: Registry,
    pub remains: Remains,
    pub left_cgroups: LeftCgroups,
    /// Of launches.
    pub turns: Turns,
    /// Of all other calls of runtimes.
    pub calls: Turns,
}

impl Services {
    fn default_runtime(&self, args: &[String]) -> Result<OciRuntime, OciError> {
        let args: Vec<String> =
            self.settings.default_runtime_args.iter().chain(args).cloned().collect();
        self.runtimes.find(&self.settings.default_runtime, &args, false)
    }

    /// The runtime that a container was made with.
    fn runtime_of(&self, record: &ContainerRecord) -> Result<OciRuntime, OciError> {
        let ContainerRecord { runtime, runtime_args, made_with, .. } = record;
        match made_with {
            Some(made_with) => {
                let environment = &self.runtimes.environment;
                Ok(OciRuntime::from_record(made_with, !runtime.is_empty(), environment))
            }
            None if runtime.is_empty() => self.default_runtime(runtime_args),
            // A server that did not write it down gave every runtime the arguments of the default one.
            None => {
                let defaults = self.settings.default_runtime_args.iter();
                let args: Vec<String> = defaults.chain(runtime_args).cloned().collect();
                self.runtimes.find(runtime, &args, true)
            }
        }
    }
}

/// Numbers for lives: the time, and larger than every one before.
#[derive(Debug, Default)]
pub struct Lives(AtomicU64);

impl Lives {
    fn next(&self) -> Life {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let previous = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let previous = previous.unwrap_or_else(|last| last);
        Life(now.max(previous.saturating_add(1)))
    }
}

/// What limits and statistics of a container are made of.
pub mod resources {
    pub use gantry_kernel::{
        cgroup::{
            BlkioEntry, BlkioStats, CgroupStats, CpuStats, DeviceLimit, DeviceLimitKind,
            DirectLimits, HugetlbStats, MemoryData, MemoryStats, PidsStats,
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

/// Which task a container has.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<ContainerKey, ContainerHandle>>);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerKey, ContainerHandle>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id, or tells who has it.
    fn hold(&self, handle: &ContainerHandle) -> Result<(), ContainerHandle> {
        let mut containers = self.lock();
        if let Some(holder) = containers.get(&handle.key) {
            return Err(holder.clone());
        }
        containers.insert(handle.key.clone(), handle.clone());
        Ok(())
    }

    /// Takes an id, unless it is taken.
    fn reserve(&self, handle: &ContainerHandle) -> Result<(), SupervisorError> {
        self.hold(handle).map_err(|_| SupervisorError::ContainerTaken(handle.key.id.clone()))
    }

    /// Takes an id, unless it is taken. What is on its way out does not hold it and is waited for.
    async fn take(&self, handle: &ContainerHandle) -> Result<(), SupervisorError> {
        loop {
            match self.hold(handle) {
                Ok(()) => return Ok(()),
                Err(holder) if holder.half_made => holder.mailbox.closed().await,
                Err(_) => return Err(SupervisorError::ContainerTaken(handle.key.id.clone())),
            }
        }
    }

    /// Frees an id.
    fn release(&self, key: &ContainerKey) {
        self.release_after(key, || ());
    }

    /// Frees an id once the last word of its container was said, before anyone can ask for it. That
    /// must be a word in memory: whoever looks for any container waits for it.
    fn release_after(&self, key: &ContainerKey, last_word: impl FnOnce()) {
        let mut containers = self.lock();
        last_word();
        containers.remove(key);
        drop(containers);
        gantry_kernel::load_has_fallen();
    }
}

impl Supervisor {
    /// Takes up the containers that are there already; see [`reattach`].
    pub async fn start(services: Services) -> Self {
        let supervisor = Self(Arc::new(Shared {
            services: Arc::new(services),
            draining: AtomicBool::new(false),
            launches: AtomicUsize::new(0),
            launch_ended: Notify::new(),
        }));
        let services = Arc::clone(&supervisor.0.services);
        tokio::spawn(async move { services.state.keep_trash_empty().await });
        supervisor.reattach().await;
        supervisor
    }

    pub fn events(&self) -> &EventLog {
        &self.0.services.events
    }

    pub fn container(
        &self,
        namespace: Namespace,
        id: ContainerId,
    ) -> Result<ContainerHandle, SupervisorError> {
        let key = ContainerKey { namespace, id };
        let found = self.0.services.registry.lock().get(&key).cloned();
        found.filter(|handle| !handle.half_made).ok_or(SupervisorError::ContainerNotFound(key.id))
    }

    /// Takes the lock that every call needs, for as long as others hold it.
    pub fn take_pulse(&self) {
        drop(self.0.services.registry.lock());
    }

    /// All containers, in the order of their ids.
    pub fn containers(&self, namespace: Namespace) -> Vec<ContainerHandle> {
        let mut found: Vec<ContainerHandle> = self
            .0
            .services
            .registry
            .lock()
            .values()
            .filter(|handle| handle.key.namespace == namespace && !handle.half_made)
            .cloned()
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Takes no more containers and processes, and waits for those that are being started.
    /// Whatever runs stays.
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
        if !self.0.services.events.flush() {
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
        (spec, caller): (ProcessSpec, Caller),
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
