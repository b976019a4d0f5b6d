//! The task that owns one container.
//!
//! ```text
//!                 +-------- pause --------+
//!                 |                       v
//! Starting --> Running <--- resume --- Paused
//!    |            |                       |
//!  failure        +------ init exits -----+
//!    v                        v
//! (nothing)                Stopped --> kill the rest --> publish exits of execs --> remove --> publish init's exit
//! ```
//!
//! A container that is kept until its caller deletes it is Created between Starting and Running, and its init's exit is
//! published before the removal.
//!
//! The actor waits for nothing but its own files and the journal: whatever else takes time is a task of its own that
//! reports back by a [`Message`], so a signal is never stuck behind a start. Every event of the container is journalled
//! and published here, and requests are answered after that. While a disk does not answer, this container waits and no
//! other does. `operation.rs` has what is being done with the container as a whole; `exit.rs` has its end.

use std::{collections::BTreeMap, sync::Arc};

use gantry_domain::{EventKind, Exit, ExitStatus, Lifecycle, ProcessId, ProcessSpec, Retention};
use gantry_events::NewEvent;
use gantry_failpoints::{Point, reach};
use gantry_kernel::{PidFd, cgroup::Cgroup, is_exiting};
use gantry_runtime::step;
use gantry_shim_proto::ToShim;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span};

pub(crate) use crate::message::Message;
use crate::{
    LaunchPermit, OnShimDeath, PreparedContainer, Services, SupervisorError,
    create::{Created, Identity, bring_up},
    ended_execs::EndedExecs,
    evidence::Evidence,
    handle::{ContainerHandle, ContainerView, DeletedProcess, Reply},
    last_known::LastKnown,
    oom::OomTask,
    operation::Activity,
    pending::Queue,
    reattach::Reattaching,
    running_process::{RunningProcess, WithoutShim},
    shim_link::ShimLink,
    state_dir::{ContainerRecord, ProcessDir},
    waiters::Waiters,
};

/// A process that its caller can ask about.
pub(crate) struct Process {
    pub(crate) spec: Arc<ProcessSpec>,
    pub(crate) pid: u32,
    /// None for one that was not started yet, or has ended.
    pub(crate) pidfd: Option<Arc<PidFd>>,
    pub(crate) link: Option<Arc<ShimLink>>,
    /// It was sent SIGKILL.
    pub(crate) killed: bool,
    /// Its caller has closed its stdin while it was being started.
    pub(crate) stdin_closed: bool,
}

impl Process {
    /// One that was not started yet, or has ended.
    pub(crate) fn without_process(spec: Arc<ProcessSpec>, pid: u32) -> Self {
        Self { spec, pid, pidfd: None, link: None, killed: false, stdin_closed: false }
    }

    /// Whether the process has ended, or the kernel is ending it.
    pub(crate) fn is_ending(&self) -> bool {
        self.has_ended() || is_exiting(self.pid)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| pidfd.has_ended())
    }
}

/// The task of one container.
pub(crate) struct Actor {
    pub(crate) services: Arc<Services>,
    pub(crate) identity: Identity,
    pub(crate) init: Arc<ProcessSpec>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) record: Option<ContainerRecord>,
    pub(crate) cgroup: Option<Arc<Cgroup>>,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    /// The ids of execs that have ended.
    pub(crate) ended: EndedExecs,
    pub(crate) oom: Option<OomTask>,
    /// Tells launches of further processes that the first one has ended.
    pub(crate) init_ended: watch::Sender<bool>,
    /// Set until the actor has reattached to the container.
    pub(crate) reattaching: Option<Reattaching>,
    /// What the view of an earlier server depends on, until it is known what became of the first process.
    pub(crate) left_with: Option<Evidence>,
    pub(crate) activity: Activity,
    /// The first process has ended while it was being started: the start is published first.
    pub(crate) early_exit: Option<Exit>,
    pub(crate) waiters: Waiters,
    /// Who waits for the first process, if the runtime is making it.
    pub(crate) early: Option<Vec<Reply<()>>>,
    /// Who repeats the request that has made the container, which is under way. Dropped replies say that it has failed.
    pub(crate) repeated: Vec<Reply<ContainerView>>,
    /// What waits for the end of an operation.
    pub(crate) pending: Queue,
    /// Callers who wait for the container's deletion; the first one is answered.
    pub(crate) deleters: Vec<Reply<DeletedProcess>>,
    pub(crate) last_known: LastKnown,
    pub(crate) mailbox: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
}

impl Actor {
    pub(crate) fn new(
        services: Arc<Services>,
        identity: Identity,
        init: Arc<ProcessSpec>,
        retention: Retention,
        handle: ContainerHandle,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            services,
            lifecycle: Lifecycle::new(identity.generation, retention),
            identity,
            init,
            record: None,
            cgroup: None,
            processes: BTreeMap::new(),
            ended: EndedExecs::default(),
            oom: None,
            init_ended: watch::Sender::new(false),
            reattaching: None,
            left_with: None,
            activity: Activity::Idle,
            early_exit: None,
            waiters: Waiters::default(),
            early: None,
            repeated: Vec::new(),
            pending: Queue::default(),
            deleters: Vec::new(),
            last_known: handle.last_known,
            mailbox: handle.mailbox,
            messages,
        }
    }

    /// Makes the container, then runs it.
    pub(crate) async fn create(
        self,
        prepared: PreparedContainer,
        mut reply: Reply<ContainerView>,
        permit: LaunchPermit,
        span: Span,
    ) {
        let services = Arc::clone(&self.services);
        let identity = self.identity.clone();
        let mailbox = self.mailbox.clone();
        let making = async move {
            let result = bring_up(&services, &identity, &prepared, &mailbox, &mut reply).await;
            let result = result.map(Box::new);
            Message::Created { result, reply, permit }
        };
        span.in_scope(|| self.work(making));
        // The container outlives the call.
        drop(span);
        self.run().await;
    }

    /// Handles messages until the container is gone.
    pub(crate) async fn run(mut self) {
        while !matches!(self.activity, Activity::Gone)
            && let Some(message) = self.messages.recv().await
        {
            let (message, span) = message.out_of_trace();
            let changes = !matches!(message, Message::Request(_));
            let ends_operation = message.ends_operation();
            self.handle(message).instrument(span).await;
            if ends_operation {
                self.operation_over().await;
            }
            if changes {
                self.show();
            }
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Request(request) => self.wait(request).await,
            Message::Within(_, message) => Box::pin(self.handle(*message)).await,
            Message::Reattached(reattached) => self.reattached(*reattached).await,
            Message::Delayed => self.delayed(),
            Message::Recorded(execs) => self.recorded(execs).await,
            Message::Launching => self.early = Some(Vec::new()),
            Message::Created { result, reply, permit } => {
                self.created(result, reply).await;
                drop(permit);
            }
            Message::Started { result, reply } => self.started(result, reply).await,
            Message::Restored { result, reply } => self.restored(result, reply).await,
            Message::ExecsOverdue => self.give_up_execs().await,
            Message::ExecStarted { spec, result, reply } => {
                self.exec_started(spec, result, reply).await;
            }
            Message::Exited { process, exit } => self.exited(&process, exit).await,
            Message::OutOfMemory { kills } => self.out_of_memory(kills).await,
            Message::Operated { operation, result, reply } => {
                self.operated(&operation, result, reply).await;
            }
            Message::RestKilled(users) => self.rest_killed(users).await,
            Message::Removed(result) => self.removed(result).await,
        }
    }

    /// Runs something that takes time; its result comes back as a message. Both are part of the call under way.
    pub(crate) fn work(&self, work: impl Future<Output = Message> + Send + 'static) {
        let work = async move { work.await.in_trace() };
        self.work_outside_of_trace(work.in_current_span());
    }

    /// The same for what outlives the call.
    pub(crate) fn work_outside_of_trace(
        &self,
        work: impl Future<Output = Message> + Send + 'static,
    ) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            // The actor may have ended meanwhile; then nobody needs the result.
            let _ = mailbox.send(work.await).await;
        });
    }

    /// Journals and publishes an event.
    pub(crate) async fn publish(&mut self, event: EventKind) -> bool {
        self.publish_within(event, |show| show()).await
    }

    /// As `publish`; `change` publishes the event with changes of its own.
    pub(crate) async fn publish_within(
        &mut self,
        event: EventKind,
        change: impl FnOnce(&dyn Fn()) + Send + 'static,
    ) -> bool {
        let Identity { key, generation, .. } = &self.identity;
        let labels = self.record.as_ref().map(ContainerRecord::event_labels).unwrap_or_default();
        let new = NewEvent { container: key.clone(), generation: *generation, labels, kind: event };
        let appended = self.services.events.append_within(new, change);
        let appended = appended.instrument(step("journal")).await;
        tracing::debug!(container = %self.identity.key, event = ?appended.event.kind, "event");
        appended.durable
    }

    async fn created(
        &mut self,
        result: Result<Box<Created>, SupervisorError>,
        reply: Reply<ContainerView>,
    ) {
        let Created { process, record, oom, rootfs } = match result {
            Ok(created) => *created,
            Err(error) => {
                self.services.registry.release(&self.identity.key);
                self.activity = Activity::Gone;
                // A caller that is gone needs no answer.
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.cgroup = record.cgroup.clone().map(Arc::new);
        let bundle = record.bundle.clone();
        let checkpoint = record.restore.as_ref().map(|restore| restore.image.clone());
        self.record = Some(record);
        let pid = process.as_ref().map_or(0, |process| process.pid);
        if let Some(process) = process.as_ref().filter(|_| reply.is_closed()) {
            // The caller cancelled before the start was journalled: kill it, no event.
            self.freezer(&self.init.id).kill(pid, &process.pidfd);
        } else {
            let event = match self.lifecycle.retention() {
                Retention::UntilExit => self.lifecycle.started(pid),
                Retention::UntilDeleted => self.lifecycle.created(gantry_domain::Created {
                    pid,
                    bundle,
                    rootfs,
                    stdio: self.init.stdio.clone(),
                    terminal: self.init.terminal,
                    checkpoint,
                }),
            };
            reach(Point::ServerStartToBeJournalled);
            self.publish(event).await;
            reach(Point::ServerStartJournalled);
            self.note_start(&ProcessId::init()).await;
            reach(Point::ServerStartNoted);
            self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
        }
        match process {
            Some(process) => {
                if self.lifecycle.is_reported() {
                    self.hold(&self.init, false).await;
                }
                self.watch(Arc::clone(&self.init), process);
            }
            None => self.wait_for_restore().await,
        }
        let _ = reply.send(Ok(self.view()));
        if self.lifecycle.is_reported() {
            for repeated in std::mem::take(&mut self.repeated) {
                let _ = repeated.send(Ok(self.view()));
            }
        }
        for early in self.early.take().unwrap_or_default() {
            let _ = early.send(Ok(()));
        }
    }

    pub(crate) async fn note_start(&mut self, process: &ProcessId) {
        let dir = self.identity.dir.process(process);
        if let Err(error) = dir.run(ProcessDir::set_journalled).await {
            tracing::error!(container = %self.identity.key, %error, "cannot record a start; the journal has it for as long as it keeps the event");
        }
    }

    /// Adds a running process and waits for its exit.
    pub(crate) fn watch(&mut self, spec: Arc<ProcessSpec>, process: RunningProcess) {
        let before = self.processes.get(&spec.id);
        if before.is_some_and(|before| before.stdin_closed)
            && let Some(link) = &process.link
        {
            // One that has gone has no stdin.
            let _ = link.send(&ToShim::CloseStdin);
        }
        let known = Process {
            spec: Arc::clone(&spec),
            pid: process.pid,
            pidfd: Some(Arc::clone(&process.pidfd)),
            link: process.link.clone(),
            killed: false,
            stdin_closed: false,
        };
        self.processes.insert(spec.id.clone(), known);
        let dir = self.identity.dir.process(&spec.id);
        let without_shim = WithoutShim {
            kill: self.services.settings.on_shim_death == OnShimDeath::Kill,
            freezer: self.freezer(&spec.id),
        };
        let oom = self.oom.clone();
        self.work_outside_of_trace(async move {
            let exit = process.exit(&dir, without_shim).await;
            if let (ExitStatus::Signal(9), Some(oom)) = (exit.status, oom) {
                oom.recheck().await;
            }
            Message::Exited { process: spec.id.clone(), exit }
        });
    }
}
