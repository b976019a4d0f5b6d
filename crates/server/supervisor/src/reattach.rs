//! Reattaches to the containers of an earlier server: running ones continue, exits of ended ones are
//! reported, and half-made ones are removed.
//!
//! The registry lists every container before the first request is served. Each actor then reattaches by
//! itself, so that a hanging shim delays only requests for its own container. Transient errors (no free
//! descriptor, for example) are retried: no container counts as gone because of an error; State meanwhile
//! shows its last known state.

use std::sync::Arc;

use gantry_domain::{ContainerKey, EventKind, Phase, ProcessId, ProcessPhase, ProcessSpec};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{
    cgroup::{Cgroup, CgroupError},
    given_oom_score_adj, is_namespace_init, until_answered,
};
use gantry_runtime::OciRuntime;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::{
    Services, Supervisor, SupervisorError,
    actor::{Actor, Message, Process},
    create::Identity,
    find::{Found, SHIM_ANSWER, find},
    half_made::discard_exec,
    handle::{ContainerHandle, MAILBOX, Request},
    kill::Freezer,
    oom::ArmedOomWatch,
    ownership::Seen,
    recovered_state::{Recovered, RecoveredExec},
    remains::Over,
    state_dir::{ContainerDir, ContainerRecord, ProcessDir},
};

/// A container of an earlier server, as it is found.
pub(crate) struct Reattached {
    record: ContainerRecord,
    /// Whether it is frozen, if that can be read.
    frozen: Option<bool>,
    oom: Option<ArmedOomWatch>,
    init: Found,
    execs: Vec<(RecoveredExec, Found)>,
}

/// Whether the end of a container that was set aside was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    /// The journal knows.
    Unknown,
}

/// What waits until a container is taken up.
#[derive(Default)]
pub(crate) struct Reattaching {
    /// Past the deadline: the last known state is shown.
    delayed: bool,
    requests: Vec<Request>,
}

impl Supervisor {
    pub(crate) async fn reattach(&self) {
        let services = &self.0.services;
        let list = || async { services.state.removed() };
        let read = || async { services.left_cgroups.read(&services.state) };
        until_answered("read which cgroups were left", read).await;
        services.left_cgroups.sweep(&services.state);
        let mut over = Vec::new();
        for dir in until_answered("list the containers that have ended", list).await {
            over.extend(services.report_removed(dir, Told::Unknown).await);
        }
        let list = || async { services.state.remains() };
        for dir in until_answered("list what remains of containers", list).await {
            over.extend(services.report_removed(dir, Told::Yes).await);
        }
        let list = || async { services.state.containers() };
        let containers = until_answered("list the containers", list).await;
        // All are read before the first is taken up, which needs descriptors that reading may lack.
        let read = |(key, dir)| {
            let left = services.read_container(&key, &dir);
            (key, dir, left)
        };
        let left: Vec<_> = containers.into_iter().map(read).collect();
        for (key, dir, left) in left {
            match left {
                Ok(Some(left)) => self.reattach_to(key, dir, left),
                Ok(None) => dir.discard(),
                Err(error) => {
                    tracing::warn!(container = %key, %error, "cannot be read now, and not be taken up");
                    self.reattach_later(key, dir);
                }
            }
        }
        // Last, when it is known which ids are in use.
        for over in over {
            services.remove_remains(over);
        }
    }

    fn reattach_to(&self, key: ContainerKey, dir: ContainerDir, left: Recovered) {
        let (mut handle, messages) = ContainerHandle::new(key.clone());
        handle.half_made = !left.reported;
        if let Err(error) = self.0.services.registry.reserve(&handle) {
            tracing::error!(container = %key, %error, "cannot be taken up");
            return;
        }
        let actor = Actor::of_earlier((&self.0.services, key, dir), &left, (handle, messages));
        tokio::spawn(actor.run_reattached(left));
    }

    /// Takes a container up once it can be read.
    fn reattach_later(&self, key: ContainerKey, dir: ContainerDir) {
        let (handle, messages) = ContainerHandle::new(key.clone());
        let services = Arc::clone(&self.0.services);
        if let Err(error) = services.registry.reserve(&handle) {
            tracing::error!(container = %key, %error, "cannot be taken up");
            return;
        }
        tokio::spawn(async move {
            let read = || async { services.read_container(&key, &dir) };
            match until_answered(format!("read the state of {key}"), read).await {
                Some(left) => {
                    let found = (&services, key, dir);
                    Actor::of_earlier(found, &left, (handle, messages)).run_reattached(left).await;
                }
                None => {
                    dir.discard();
                    services.registry.release(&key);
                }
            }
        });
    }
}

impl Services {
    /// Publishes an exit that an earlier server did not; returns what may remain of it.
    async fn report_removed(&self, dir: ContainerDir, told: Told) -> Option<Over> {
        let read = || async {
            match self.read_removed(&dir) {
                Err(error) if error.is_scarce() => Err(error),
                other => Ok(other),
            }
        };
        let (record, untold) = match until_answered("read the end of a container", read).await {
            Ok(Some(read)) => read,
            Err(error) if error.damaged_file().is_none() => {
                tracing::error!(%error, "the end of a container cannot be read; a later start tries again");
                return None;
            }
            other => {
                if let Err(error) = other {
                    tracing::error!(%error, "the end of a container cannot be read");
                }
                dir.discard();
                return None;
            }
        };
        let key = record.key();
        let (process, generation) = (ProcessId::init(), record.generation);
        // Of an exit of `types.API`, which does not tell pids of the host.
        let pid = 0;
        let told = match untold {
            Some(exit) if told == Told::Unknown => {
                let event = EventKind::Exited { process, generation, pid, exit };
                let durable = self.events.append(&key, generation, event).durable;
                reach(Point::ServerMissedExitJournalled);
                durable
            }
            _ => true,
        };
        let runtime = self.runtime_or_missing(&key, &record);
        let identity = Identity { key, generation, dir, runtime, seen: Seen::default() };
        let init = identity.dir.process(&ProcessId::init());
        // Unless it is known that nobody was told of it, it has ended.
        let ended = init.is_journalled().unwrap_or(true);
        Some(Over { identity, record, ended, told, deleted: false })
    }

    /// The container's runtime. While the binary is missing, processes are still watched; it may return.
    fn runtime_or_missing(&self, key: &ContainerKey, record: &ContainerRecord) -> OciRuntime {
        self.runtime_of(record).unwrap_or_else(|error| {
            tracing::error!(container = %key, %error, "its runtime is missing");
            OciRuntime::missing(&record.runtime, &record.runtime_args)
        })
    }

    /// Where a further process may be frozen.
    pub(crate) fn freezer(&self, record: &ContainerRecord) -> Freezer {
        Freezer {
            hierarchies: Arc::clone(&self.hierarchies),
            cgroup: record.cgroup.clone().map(Arc::new),
            init: false,
        }
    }

    /// Completes the record from what still runs.
    async fn complete(&self, identity: &Identity, record: &mut ContainerRecord, found: &Found) {
        let Found::Running(process) = found else { return };
        identity.note_keeping();
        if record.cgroup.is_none() {
            let ask = || async {
                match Cgroup::of_process(&self.hierarchies, process.pid) {
                    Err(error @ CgroupError::Io { .. }) => Err(error),
                    answer => Ok(answer.ok()),
                }
            };
            let what = format!("find the cgroup of {}", identity.key);
            record.cgroup = until_answered(what, ask).await;
        }
        // Servers before these fields did not record them.
        if record.made_with.is_none() {
            record.oom_score_adj =
                record.oom_score_adj.or_else(|| given_oom_score_adj(process.pid));
            record.pid_namespace |= is_namespace_init(process.pid) == Some(true);
        }
        if record.bundle.as_os_str().is_empty()
            && let Ok(Some(state)) = self.ask_runtime(&identity.runtime, &identity.key.id).await
        {
            record.bundle = state.bundle;
        }
    }

    /// Examines a container and its processes. Fails if no descriptor is left for its OOM watch; what was
    /// opened is closed again, so that others have room.
    async fn look_at(
        self: Arc<Self>,
        identity: &Identity,
        mut record: ContainerRecord,
    ) -> Result<Reattached, CgroupError> {
        let init = identity.dir.process(&ProcessId::init());
        let freezer = self.freezer(&record);
        let execs = Arc::clone(&self).look_at_execs(identity, &freezer);
        let (init, execs) = tokio::join!(find(&init), execs);
        self.complete(identity, &mut record, &init).await;
        let oom = match &record.cgroup {
            Some(cgroup) => ArmedOomWatch::arm(&identity.key.id, cgroup, record.oom_kills)?,
            None => None,
        };
        let frozen = record.cgroup.as_ref().and_then(|cgroup| cgroup.is_frozen().ok());
        Ok(Reattached { record, frozen, oom, init, execs })
    }

    /// All at once, as each of their shims may hang.
    async fn look_at_execs(
        self: Arc<Self>,
        identity: &Identity,
        freezer: &Freezer,
    ) -> Vec<(RecoveredExec, Found)> {
        let list = || async { identity.dir.processes() };
        let what = format!("list the processes of {}", identity.key);
        let mut looks = JoinSet::new();
        for dir in until_answered(what, list).await {
            if !dir.id().is_some_and(|id| id.is_init()) {
                let (services, identity) = (Arc::clone(&self), identity.clone());
                let freezer = freezer.clone();
                looks.spawn(async move { services.look_at_exec(&identity, &dir, freezer).await });
            }
        }
        looks.join_all().await.into_iter().flatten().collect()
    }

    /// `None`, and removed, if its start is unpublished or its exit published.
    async fn look_at_exec(
        &self,
        identity: &Identity,
        dir: &ProcessDir,
        freezer: Freezer,
    ) -> Option<(RecoveredExec, Found)> {
        let read = || async { self.read_exec((&identity.key, identity.generation), dir) };
        let what = format!("read {}", dir.path().display());
        let left = until_answered(what, read).await;
        let found = find(dir).await;
        match left {
            Some(left) if left.reported => Some((left, found)),
            left => {
                discard_exec(dir, found, freezer).await;
                if left.is_some() {
                    reach(Point::ServerHalfMadeExecRemoved);
                }
                None
            }
        }
    }
}

impl Actor {
    fn of_earlier(
        (services, key, dir): (&Arc<Services>, ContainerKey, ContainerDir),
        Recovered { record, init, .. }: &Recovered,
        (handle, messages): (ContainerHandle, mpsc::Receiver<Message>),
    ) -> Self {
        let runtime = services.runtime_or_missing(&key, record);
        let identity =
            Identity { key, generation: record.generation, dir, runtime, seen: Seen::default() };
        Self::new(Arc::clone(services), identity, &init.spec, (handle, messages))
    }

    /// Takes the container up, then runs it.
    async fn run_reattached(mut self, left: Recovered) {
        if !left.reported {
            return self.discard(left.record).await;
        }
        let key = &self.identity.key;
        let told = self.services.events.latest(key, left.record.generation, |event| match event {
            EventKind::Paused => Some(true),
            EventKind::Resumed => Some(false),
            _ => None,
        });
        let paused = told.unwrap_or(left.record.paused);
        self.lifecycle.reattached(left.pid, if paused { Phase::Paused } else { Phase::Running });
        self.cgroup = left.record.cgroup.clone().map(Arc::new);
        let (spec, pid) = (Arc::clone(&self.init), left.pid);
        let init = Process { spec, pid, pidfd: None, link: None, killed: false };
        self.processes.insert(self.init.id.clone(), init);
        self.record = Some(left.record.clone());
        self.reattaching = Some(Reattaching::default());
        self.show();

        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.work(async move {
            let look = || Arc::clone(&services).look_at(&identity, left.record.clone());
            let reattached = until_answered(format!("take {} up", identity.key), look).await;
            Message::Reattached(Box::new(reattached))
        });
        self.work(async {
            sleep(SHIM_ANSWER).await;
            Message::Delayed
        });
        self.run().await;
    }

    /// Queues a request until reattached; only the last known state is answered before.
    pub(crate) fn wait(&mut self, request: Request) {
        let Some(reattaching) = &mut self.reattaching else { return self.request(request) };
        if reattaching.delayed && matches!(request, Request::View(_)) {
            self.request(request);
        } else if reattaching.requests.len() < MAILBOX {
            reattaching.requests.push(request);
        } else {
            request.refuse(SupervisorError::Overloaded);
        }
    }

    /// Reattaching has missed its deadline.
    pub(crate) fn delayed(&mut self) {
        if let Some(reattaching) = &mut self.reattaching {
            reattaching.delayed = true;
            for request in std::mem::take(&mut reattaching.requests) {
                self.wait(request);
            }
        }
    }

    pub(crate) fn reattached(&mut self, reattached: Reattached) {
        let Reattached { record, frozen, oom, init, execs } = reattached;
        self.cgroup = record.cgroup.clone().map(Arc::new);
        self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
        self.record = Some(record);
        if let Some(frozen) = frozen {
            self.tell_pause(frozen);
        }
        for (RecoveredExec { generation, spec, .. }, found) in execs {
            let running = (found.pid(), ProcessPhase::Running);
            self.lifecycle.exec_reattached(spec.id.clone(), generation, running);
            self.process_found(Arc::new(spec), found);
        }
        self.process_found(Arc::clone(&self.init), init);
        let waiting = self.reattaching.take().map(|reattaching| reattaching.requests);
        for request in waiting.unwrap_or_default() {
            self.request(request);
        }
    }

    /// A process that ended without a server is known until its exit is published.
    fn process_found(&mut self, spec: Arc<ProcessSpec>, found: Found) {
        match found {
            Found::Running(process) => self.watch(spec, process),
            Found::Ended { pid, exit } => {
                let id = spec.id.clone();
                self.processes.insert(
                    id.clone(),
                    Process { spec, pid, pidfd: None, link: None, killed: false },
                );
                self.exited(&id, exit);
            }
        }
    }
}
