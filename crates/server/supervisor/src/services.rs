//! What the tasks of all containers share.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gantry_disk::Disks;
use gantry_domain::Generation;
use gantry_events::{EventLog, JournalError};
use gantry_kernel::{
    Reaper,
    cgroup::{self, CgroupError, Hierarchies, OwnLimits, RcuWarmup, ShimCgroup},
};
use gantry_runtime::{Environment, InMemory, OciError, OciRuntime, Runtimes};

use crate::{
    attach::Attachments,
    left_cgroups::LeftCgroups,
    measures::Reattachment,
    own_images::OwnImages,
    registry::Registry,
    remains::Remains,
    shim_link::ShimProgram,
    shim_pool::ShimPool,
    state_dir::{ContainerRecord, StateDir},
    turns::Turns,
};

/// What to do with a process whose shim has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShimDeath {
    /// It lives on, and its exit is still reported.
    Adopt,
    /// It is killed.
    Kill,
}

/// What an operator can choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The runtime of containers whose caller names none.
    pub default_runtime: String,
    /// Go before every sub-command of the default runtime.
    pub default_runtime_args: Vec<String>,
    /// Of every runtime call.
    pub environment: Environment,
    /// How long the runtime may take to start a process.
    pub start_timeout: Duration,
    /// How long any other runtime call may take.
    pub runtime_timeout: Duration,
    /// How long output that nobody has read stays readable after the exit.
    pub linger: Duration,
    /// Whether a process lives on without its shim.
    pub on_shim_death: OnShimDeath,
    /// The program that is the parent of each process.
    pub shim: ShimProgram,
    /// How many events are kept for replay.
    pub retain_count: usize,
    /// Where images are kept that callers have as content; made when there is one.
    pub images: PathBuf,
    /// Bytes of output that are kept of each process whose streams the server holds.
    pub attach_buffer: usize,
    /// Of the server's own memory.
    pub memory: OwnLimits,
}

/// Why no container can be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What the tasks of all containers share.
pub(crate) struct Services {
    pub(crate) settings: Settings,
    pub(crate) state: StateDir,
    pub(crate) disks: Disks,
    pub(crate) images: OwnImages,
    pub(crate) events: EventLog,
    pub(crate) runtimes: Runtimes,
    pub(crate) shims: Arc<ShimPool>,
    pub(crate) hierarchies: Arc<Hierarchies>,
    pub(crate) rcu_warmup: RcuWarmup,
    pub(crate) generations: Generations,
    pub(crate) registry: Registry,
    pub(crate) remains: Remains,
    pub(crate) left_cgroups: LeftCgroups,
    pub(crate) attachments: Attachments,
    pub(crate) reattachment: Arc<Reattachment>,
    /// Of launches.
    pub(crate) turns: Turns,
    /// Of all other calls of runtimes.
    pub(crate) calls: Turns,
}

impl Services {
    /// Opens what is in the state directory, and starts what serves all containers.
    pub(crate) async fn open(settings: Settings, state: StateDir) -> Result<Self, StartError> {
        let retain = settings.retain_count;
        let opened = state.run(move |state, _| EventLog::open(state.root(), retain)).await;
        let (events, recovery) = opened?;
        if !recovery.is_clean() {
            tracing::error!(?recovery, "the event journal was damaged");
        }
        let reaper = Reaper::start()?;
        let shim_cgroup = limit_memory(settings.memory)?;
        let shim = settings.shim.clone();
        let shims = ShimPool::new(shim, reaper.clone(), state.new_process_dirs(), shim_cgroup);
        // The server may have moved by now.
        let hierarchies = Arc::new(Hierarchies::discover()?);
        let disks = Disks::new()?;
        let images = OwnImages::new(settings.images.clone())?;
        let runtimes = Runtimes {
            reaper,
            deadline: settings.runtime_timeout,
            environment: settings.environment.clone(),
            in_memory: InMemory::new(disks.clone()),
            files: state.files(),
            calls: Arc::default(),
        };
        Ok(Self {
            state,
            events,
            runtimes,
            disks,
            images,
            settings,
            shims,
            rcu_warmup: RcuWarmup::new(Arc::clone(&hierarchies)),
            hierarchies,
            generations: Generations::default(),
            left_cgroups: LeftCgroups::default(),
            attachments: Attachments::default(),
            reattachment: Arc::default(),
            turns: Turns::default(),
            calls: Turns::default(),
            registry: Registry::default(),
            remains: Remains::default(),
        })
    }

    pub(crate) fn default_runtime(&self, args: &[String]) -> Result<OciRuntime, OciError> {
        let args: Vec<String> =
            self.settings.default_runtime_args.iter().chain(args).cloned().collect();
        self.runtimes.find(&self.settings.default_runtime, &args, false)
    }

    /// The runtime that a container was made with.
    pub(crate) fn runtime_of(&self, record: &ContainerRecord) -> Result<OciRuntime, OciError> {
        let ContainerRecord { runtime, runtime_args, made_with, .. } = record;
        match made_with {
            Some(made_with) => {
                let environment = &self.runtimes.environment;
                Ok(OciRuntime::from_record(made_with, !runtime.is_empty(), environment))
            }
            None if runtime.is_empty() => self.default_runtime(runtime_args),
            // Versions that did not record the arguments gave every runtime those of the default one.
            None => {
                let defaults = self.settings.default_runtime_args.iter();
                let args: Vec<String> = defaults.chain(runtime_args).cloned().collect();
                self.runtimes.find(runtime, &args, true)
            }
        }
    }
}

/// Makes generation numbers: the time, but larger than every one before.
#[derive(Debug, Default)]
pub(crate) struct Generations(AtomicU64);

impl Generations {
    pub(crate) fn next(&self) -> Generation {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let previous = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let previous = previous.unwrap_or_else(|last| last);
        Generation(now.max(previous.saturating_add(1)))
    }
}

/// A server without limits is better than none.
fn limit_memory(memory: OwnLimits) -> Result<ShimCgroup, CgroupError> {
    let limited = cgroup::limit_own(&Hierarchies::discover()?, memory);
    Ok(limited.unwrap_or_else(|error| {
        tracing::warn!(%error, "the server's memory is not limited");
        ShimCgroup::default()
    }))
}
