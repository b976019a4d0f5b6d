//! Reattaches to the containers of an earlier server: running ones continue, exits of ended ones are
//! reported, and half-made ones are removed.
//!
//! The registry lists every container before the first request is served. Each actor then reattaches by
//! itself, so that a hanging shim delays only requests for its own container. Transient errors (no free
//! descriptor, for example) are retried: no container counts as gone because of an error; State meanwhile
//! shows its last known state.

use std::{collections::BTreeSet, sync::Arc};

use gantry_domain::{ContainerKey, EventKind, Phase, ProcessPhase, ProcessSpec, Retention};
use gantry_kernel::until_answered;
use tokio::{sync::mpsc, time::sleep};
use tracing::{Instrument, Span};

use crate::{
    Services, Supervisor, SupervisorError,
    actor::{Actor, Message, Process},
    create::Identity,
    evidence::Evidence,
    find::{Found, SHIM_ANSWER},
    handle::{ContainerHandle, MAILBOX, Request},
    inspect::Reattached,
    measures::Pending,
    operation::Activity,
    ownership::Seen,
    recovered_state::{LeftExec, Recovered, RecoveredExec},
    removed::EndJournalled,
    state_dir::{ContainerDir, RestoreRecord, StateDir, TaskBundle},
};

/// What waits until the server has reattached to a container.
pub(crate) struct Reattaching {
    _pending: Pending,
    /// Past the deadline: the last known state is shown.
    delayed: bool,
    requests: Vec<(Request, Span)>,
}

impl Supervisor {
    pub(crate) async fn reattach(&self) {
        let services = &self.0.services;
        services.discard_earlier_boot().await;
        let state = &services.state;
        let read = || services.left_cgroups.read(state);
        until_answered("read which cgroups were left", read).await;
        services.left_cgroups.sweep(state).await;
        let list = || state.run(StateDir::removed);
        let mut over = Vec::new();
        for dir in until_answered("list the containers that have ended", list).await {
            over.extend(services.report_removed(dir, EndJournalled::Unknown).await);
        }
        let list = || state.run(StateDir::remains);
        for dir in until_answered("list what remains of containers", list).await {
            over.extend(services.report_removed(dir, EndJournalled::Yes).await);
        }
        let list = || state.run(StateDir::containers);
        let containers = until_answered("list the containers", list).await;
        // All are read before the server reattaches to the first, which needs descriptors that reading may lack.
        let read = services.read_containers(containers).await;
        // Unknown if a record cannot be read now.
        let mut images = Some(BTreeSet::new());
        for (key, dir, left) in read {
            match left {
                Ok(Some(left)) => {
                    let image = left.record.restore.as_ref().and_then(RestoreRecord::own_image);
                    if let (Some(images), Some(image)) = (&mut images, image) {
                        images.insert(image.to_owned());
                    }
                    self.reattach_to(key, dir, left);
                }
                Ok(None) => dir.discard().await,
                Err(error) => {
                    tracing::warn!(container = %key, %error, "its state cannot be read now; it is tried again");
                    images = None;
                    self.reattach_later(key, dir);
                }
            }
        }
        if let Some(images) = images {
            services.sweep_images(images);
        }
        // Last, when it is known which ids are in use.
        for over in over {
            services.remove_remains(over).await;
        }
        services.reattachment.all_found();
    }

    fn reattach_to(&self, key: ContainerKey, dir: ContainerDir, left: Recovered) {
        let (mut handle, messages) = ContainerHandle::new(key.clone());
        left.describe(&mut handle);
        if let Err(error) = self.0.services.registry.reserve(&handle) {
            tracing::error!(container = %key, %error, "cannot reattach to it; a restart tries again");
            return;
        }
        let actor = Actor::of_earlier(&self.0.services, key, dir, &left, handle, messages);
        tokio::spawn(actor.run_reattached(left, self.0.services.reattachment.begin()));
    }

    /// Reattaches to a container once it can be read.
    fn reattach_later(&self, key: ContainerKey, dir: ContainerDir) {
        let (mut handle, messages) = ContainerHandle::new(key.clone());
        let services = Arc::clone(&self.0.services);
        if let Err(error) = services.registry.reserve(&handle) {
            tracing::error!(container = %key, %error, "cannot reattach to it; a restart tries again");
            return;
        }
        let pending = services.reattachment.begin();
        tokio::spawn(async move {
            let read = || {
                let (services, key) = (Arc::clone(&services), key.clone());
                dir.run(move |dir, wait| services.read_container(&key, dir, wait))
            };
            match until_answered(format!("read the state of {key}"), read).await {
                Some(left) => {
                    left.describe(&mut handle);
                    services.registry.update(&handle);
                    Actor::of_earlier(&services, key, dir, &left, handle, messages)
                        .run_reattached(left, pending)
                        .await;
                }
                None => {
                    dir.discard().await;
                    services.registry.release(&key);
                }
            }
        });
    }
}

impl Recovered {
    /// What the registry is to know of it.
    fn describe(&self, handle: &mut ContainerHandle) {
        handle.half_made = !self.reported;
        handle.idempotency.clone_from(&self.record.idempotency);
    }
}

impl Actor {
    fn of_earlier(
        services: &Arc<Services>,
        key: ContainerKey,
        dir: ContainerDir,
        Recovered { record, init, .. }: &Recovered,
        handle: ContainerHandle,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        let runtime = services.runtime_or_missing(&key, record);
        let bundle = services.own_bundle(&key, record.retention, record.restore.as_ref());
        let runtime = runtime.in_bundle(bundle.as_ref().map(TaskBundle::path));
        let (generation, seen) = (record.generation, Seen::default());
        let identity = Identity { key, generation, dir, runtime, seen, bundle };
        Self::new(
            Arc::clone(services),
            identity,
            Arc::new(init.spec.clone()),
            record.retention,
            handle,
            messages,
        )
    }

    /// Reattaches to the container, then runs it.
    async fn run_reattached(mut self, left: Recovered, _pending: Pending) {
        if !left.reported {
            return self.discard(left.record).await;
        }
        let phase = self.phase_of(&left);
        self.lifecycle.reattached(left.pid(), phase);
        if left.exit.is_some() {
            self.activity = Activity::Ended;
        }
        self.cgroup = left.record.cgroup.clone().map(Arc::new);
        let (spec, pid) = (Arc::clone(&self.init), left.pid());
        let init = Process::without_process(spec, pid);
        self.processes.insert(self.init.id.clone(), init);
        self.record = Some(left.record.clone());
        self.reattaching = Some(Reattaching { _pending, delayed: false, requests: Vec::new() });
        self.left_with = Evidence::of(&left, phase);
        self.show();

        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.work(async move {
            let inspect =
                || Arc::clone(&services).inspect(&identity, left.record.clone(), left.exit);
            let reattached = until_answered(format!("reattach to {}", identity.key), inspect).await;
            Message::Reattached(Box::new(reattached))
        });
        self.work(async {
            sleep(SHIM_ANSWER).await;
            Message::Delayed
        });
        self.run().await;
    }

    /// Where it was in its life, as far as that was published.
    fn phase_of(&self, left: &Recovered) -> Phase {
        let Recovered { record, exit, .. } = left;
        let published = |what: fn(&EventKind) -> Option<bool>| {
            self.services.events.latest(&self.identity.key, record.generation, what)
        };
        let started =
            |event: &EventKind| matches!(event, EventKind::ContainerStarted { .. }).then_some(true);
        let paused = published(|event| match event {
            EventKind::Paused => Some(true),
            EventKind::Resumed => Some(false),
            _ => None,
        });
        match exit {
            Some(exit) => Phase::Stopped(*exit),
            None if record.retention == Retention::UntilDeleted
                && !record.started
                && published(started).is_none() =>
            {
                Phase::Created
            }
            None if paused.unwrap_or(record.paused) => Phase::Paused,
            None => Phase::Running,
        }
    }

    /// Queues a request until reattached; only the last known state is answered before.
    pub(crate) async fn wait(&mut self, request: Request) {
        let Some(reattaching) = &mut self.reattaching else { return self.request(request).await };
        if reattaching.delayed && matches!(request, Request::View(_)) {
            self.request(request).await;
        } else if reattaching.requests.len() < MAILBOX {
            reattaching.requests.push((request, Span::current()));
        } else {
            request.refuse(SupervisorError::Overloaded);
        }
    }

    /// Reattaching has missed its deadline. What records say is read first: whoever asks for the state takes a process
    /// that is not there for one that has ended.
    pub(crate) fn delayed(&mut self) {
        if let (Some(_), Some(record)) = (&self.reattaching, self.record.clone()) {
            let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
            self.work(async move {
                Message::Recorded(services.recorded_execs(&identity, &record).await)
            });
        }
    }

    /// The last known state is answered until the container is reattached to.
    pub(crate) async fn recorded(&mut self, execs: Vec<RecoveredExec>) {
        if self.reattaching.is_none() {
            return;
        }
        for exec in execs {
            self.exec_recorded(exec);
        }
        self.show();
        if let Some(reattaching) = &mut self.reattaching {
            reattaching.delayed = true;
            for (request, span) in std::mem::take(&mut reattaching.requests) {
                self.wait(request).instrument(span).await;
            }
        }
    }

    pub(crate) async fn reattached(&mut self, reattached: Reattached) {
        let Reattached { record, frozen, oom, init, unpublished_start, execs } = reattached;
        self.cgroup = record.cgroup.clone().map(Arc::new);
        self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
        self.record = Some(record);
        if unpublished_start && self.lifecycle.phase() == Phase::Created {
            let known = self.processes.get(&self.init.id).map_or(0, |known| known.pid);
            self.publish_start(init.as_ref().map_or(known, Found::pid)).await;
        }
        if let Some(frozen) = frozen {
            self.publish_pause(frozen).await;
        }
        for (exec, found) in execs {
            self.exec_found(exec, found).await;
        }
        if let Some(init) = init {
            self.process_found(Arc::clone(&self.init), init).await;
        }
        let waiting = self.reattaching.take().map(|reattaching| reattaching.requests);
        for (request, span) in waiting.unwrap_or_default() {
            self.request(request).instrument(span).await;
        }
    }

    async fn exec_found(&mut self, mut exec: RecoveredExec, found: Option<Found>) {
        exec.pid = found.as_ref().map_or(exec.pid, Found::pid);
        let spec = self.exec_recorded(exec);
        if let Some(found) = found {
            self.process_found(spec, found).await;
        }
    }

    /// Until its process is found it has none.
    fn exec_recorded(&mut self, exec: RecoveredExec) -> Arc<ProcessSpec> {
        let RecoveredExec { generation, spec, pid, left } = exec;
        let (id, spec) = (spec.id.clone(), Arc::new(spec));
        let phase = match left {
            LeftExec::Ended(exit) => ProcessPhase::Stopped(exit),
            LeftExec::Added => ProcessPhase::Created,
            LeftExec::Nothing | LeftExec::Started => ProcessPhase::Running,
        };
        self.lifecycle.exec_reattached(id.clone(), generation, pid, phase);
        let pid = if phase == ProcessPhase::Created { 0 } else { pid };
        self.processes.insert(id, Process::without_process(Arc::clone(&spec), pid));
        spec
    }

    /// A process that ended without a server is known until its exit is published.
    async fn process_found(&mut self, spec: Arc<ProcessSpec>, found: Found) {
        self.hold(&spec, true).await;
        match found {
            Found::Running(process) => self.watch(spec, process),
            Found::Ended { pid, exit } => {
                let id = spec.id.clone();
                self.processes.insert(id.clone(), Process::without_process(spec, pid));
                self.exited(&id, exit).await;
            }
        }
    }
}
