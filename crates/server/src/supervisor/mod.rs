//! Containers: one task for each owns its state, and a registry maps ids to tasks.
//!
//! Nothing here knows of any one API, and no container ever waits for another.

mod actor;
mod calls;
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
mod launch;
mod left;
mod left_cgroups;
mod neighbours;
mod oom;
mod process;
mod reattach;
mod remains;
mod requests;
mod seen;
mod spare;
mod turns;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) use create::NewContainer;
pub(crate) use error::SupervisorError;
pub(crate) use forget::NotOurs;
pub(crate) use handle::{ContainerHandle, ContainerView, NewLimits};
pub(crate) use left_cgroups::LeftCgroups;
pub(crate) use remains::Remains;
pub(crate) use seen::see;
pub(crate) use spare::Shims;
use tokio::sync::Notify;
pub(crate) use turns::Turns;

use crate::{
    bundle::Dialect,
    cgroup::{Hierarchies, Moves},
    disk::Disks,
    domain::{ContainerId, ContainerKey, Life, Namespace},
    events::EventLog,
    oci::{OciError, OciRuntime, Runtimes},
    state_dir::{ContainerRecord, StateDir},
    sys,
};

/// What to do with a process whose shim has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnShimDeath {
    /// It lives on, and its exit is still reported.
    Adopt,
    /// It is killed.
    Kill,
}

/// Who asks: connections, for which launches take turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub(crate) u64);

/// What an operator can choose.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) default_runtime: String,
    pub(crate) default_runtime_args: Vec<String>,
    /// How long the runtime may take to start a process.
    pub(crate) start_timeout: Duration,
    /// How long output that nobody has read stays readable after the exit.
    pub(crate) linger: Duration,
    pub(crate) on_shim_death: OnShimDeath,
}

/// What the tasks of all containers share.
pub(crate) struct Services {
    pub(crate) settings: Settings,
    pub(crate) state: StateDir,
    pub(crate) disks: Disks,
    pub(crate) events: EventLog,
    pub(crate) runtimes: Runtimes,
    pub(crate) shims: Arc<Shims>,
    pub(crate) hierarchies: Arc<Hierarchies>,
    pub(crate) moves: Moves,
    pub(crate) lives: Lives,
    pub(crate) registry: Registry,
    pub(crate) remains: Remains,
    pub(crate) left_cgroups: LeftCgroups,
    /// Of launches.
    pub(crate) turns: Turns,
    /// Of all other calls of runtimes.
    pub(crate) calls: Turns,
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
pub(crate) struct Lives(AtomicU64);

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

/// The containers of the server.
#[derive(Clone)]
pub(crate) struct Supervisor(Arc<Shared>);

struct Shared {
    services: Arc<Services>,
    draining: AtomicBool,
    /// Launches under way, which a stopping server lets finish.
    launches: AtomicUsize,
    launch_ended: Notify,
}

/// Which task a container has.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<ContainerKey, ContainerHandle>>);

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
        sys::load_has_fallen();
    }
}

impl Supervisor {
    /// Takes up the containers that are there already; see [`reattach`].
    pub(crate) async fn start(services: Services) -> Self {
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

    pub(crate) fn events(&self) -> &EventLog {
        &self.0.services.events
    }

    pub(crate) fn disks(&self) -> &Disks {
        &self.0.services.disks
    }

    /// How the runtime that a container asks for reads JSON; an empty name is the server's default.
    pub(crate) fn dialect(&self, runtime: &str) -> Dialect {
        let default = &self.0.services.settings.default_runtime;
        Dialect::of_runtime(if runtime.is_empty() { default } else { runtime })
    }

    pub(crate) fn container(
        &self,
        namespace: Namespace,
        id: ContainerId,
    ) -> Result<ContainerHandle, SupervisorError> {
        let key = ContainerKey { namespace, id };
        let found = self.0.services.registry.lock().get(&key).cloned();
        found.filter(|handle| !handle.half_made).ok_or(SupervisorError::ContainerNotFound(key.id))
    }

    /// Takes the lock that every call needs, for as long as others hold it.
    pub(crate) fn take_pulse(&self) {
        drop(self.0.services.registry.lock());
    }

    /// All containers, in the order of their ids.
    pub(crate) fn containers(&self, namespace: Namespace) -> Vec<ContainerHandle> {
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
    pub(crate) async fn drain(&self) {
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
