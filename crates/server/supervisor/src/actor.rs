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
//! The actor never waits: whatever takes time is a task of its own that reports back by a [`Message`], so a signal is
//! never stuck behind a start. Every event of the container is journalled and published here, and requests are answered
//! after that. `operation.rs` has what is being done with the container as a whole; `exit.rs` has its end.

use std::{collections::BTreeMap, sync::Arc};

use gantry_domain::{
    EventKind, Exit, ExitStatus, Lifecycle, ProcessId, ProcessSpec, Refusal, Retention,
};
use gantry_events::NewEvent;
use gantry_failpoints::{Point, reach};
use gantry_kernel::{PidFd, cgroup::Cgroup, is_exiting};
use tokio::sync::{mpsc, watch};

use crate::{
    Caller, LaunchPermit, OnShimDeath, PreparedContainer, Services, SupervisorError,
    create::{Created, Identity, bring_up},
    ended_execs::EndedExecs,
    exec::{NewExec, start_exec},
    handle::{ContainerHandle, ContainerView, Reply, Request},
    last_known::LastKnown,
    oom::OomTask,
    operation::{Activity, Operation},
    reattach::{Reattached, Reattaching},
    remains::Remaining,
    running_process::{RunningProcess, WithoutShim},
    shim_link::ShimLink,
    state_dir::ContainerRecord,
    teardown::Users,
};

/// Messages to a container's actor.
pub(crate) enum Message {
    Request(Request),
    /// The look at an earlier server's container is done.
    Reattached(Box<Reattached>),
    /// That look takes longer than it should.
    Delayed,
    /// The first process was started, or was not.
    Created {
        result: Result<Box<Created>, SupervisorError>,
        reply: Reply<ContainerView>,
        permit: LaunchPermit,
    },
    /// A further process was started, or was not.
    ExecStarted {
        spec: Arc<ProcessSpec>,
        result: Result<RunningProcess, SupervisorError>,
        reply: Reply<u32>,
    },
    Exited {
        process: ProcessId,
        exit: Exit,
    },
    OutOfMemory {
        kills: u64,
    },
    /// The runtime has done what a request asked for, or has not.
    Operated {
        operation: Arc<Operation>,
        result: Result<(), SupervisorError>,
        reply: Reply<()>,
    },
    /// No process of the container is left; who else is in its cgroup, if known.
    RestKilled(Option<Users>),
    /// Runtime and kernel have nothing of the container, or this is left.
    Removed(Result<(), Remaining>),
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

/// A process between its start event and its exit event.
pub(crate) struct Process {
    pub(crate) spec: Arc<ProcessSpec>,
    pub(crate) pid: u32,
    /// None for one that was found ended after a restart.
    pub(crate) pidfd: Option<Arc<PidFd>>,
    pub(crate) link: Option<Arc<ShimLink>>,
    /// It was sent SIGKILL.
    pub(crate) killed: bool,
}

impl Process {
    /// Whether the process has ended, or does nothing but end any more.
    fn is_ending(&self) -> bool {
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
    /// Execs that have ended.
    pub(crate) ended: EndedExecs,
    pub(crate) oom: Option<OomTask>,
    /// Tells launches of further processes that the first one has ended.
    pub(crate) init_ended: watch::Sender<bool>,
    /// Set until the actor has reattached to the container.
    pub(crate) reattaching: Option<Reattaching>,
    pub(crate) activity: Activity,
    pub(crate) last_known: LastKnown,
    pub(crate) mailbox: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
}

impl Actor {
    pub(crate) fn new(
        services: Arc<Services>,
        identity: Identity,
        init: &ProcessSpec,
        (handle, messages): (ContainerHandle, mpsc::Receiver<Message>),
    ) -> Self {
        Self {
            services,
            lifecycle: Lifecycle::new(identity.generation, Retention::UntilExit),
            identity,
            init: Arc::new(init.clone()),
            record: None,
            cgroup: None,
            processes: BTreeMap::new(),
            ended: EndedExecs::default(),
            oom: None,
            init_ended: watch::Sender::new(false),
            reattaching: None,
            activity: Activity::Idle,
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
    ) {
        let services = Arc::clone(&self.services);
        let identity = self.identity.clone();
        self.work(async move {
            let result = bring_up(&services, &identity, &prepared, &mut reply).await.map(Box::new);
            Message::Created { result, reply, permit }
        });
        self.run().await;
    }

    /// Handles messages until the container is gone.
    pub(crate) async fn run(mut self) {
        while !matches!(self.activity, Activity::Gone)
            && let Some(message) = self.messages.recv().await
        {
            let changes = !matches!(message, Message::Request(_));
            self.handle(message);
            if changes {
                self.show();
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Request(request) => self.wait(request),
            Message::Reattached(reattached) => self.reattached(*reattached),
            Message::Delayed => self.delayed(),
            Message::Created { result, reply, permit } => {
                self.created(result, reply);
                drop(permit);
            }
            Message::ExecStarted { spec, result, reply } => {
                self.exec_started(spec, result, reply);
            }
            Message::Exited { process, exit } => self.exited(&process, exit),
            Message::OutOfMemory { kills } => self.out_of_memory(kills),
            Message::Operated { operation, result, reply } => {
                self.operated(&operation, result, reply);
            }
            Message::RestKilled(users) => self.rest_killed(users),
            Message::Removed(result) => self.removed(result),
        }
    }

    /// Runs something that takes time and has its result come back as a message.
    pub(crate) fn work(&self, work: impl Future<Output = Message> + Send + 'static) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            // The container may be gone meanwhile, and with it the need to know.
            let _ = mailbox.send(work.await).await;
        });
    }

    /// Journals and publishes an event.
    pub(crate) fn publish(&self, event: EventKind) -> bool {
        self.publish_within(event, |show| show())
    }

    /// As `publish`; `change` publishes the event with changes of its own.
    pub(crate) fn publish_within(&self, event: EventKind, change: impl FnOnce(&dyn Fn())) -> bool {
        let Identity { key, generation, .. } = &self.identity;
        let new = NewEvent { container: key, generation: *generation, kind: event };
        let appended = self.services.events.append_within(new, change);
        tracing::debug!(container = %self.identity.key, event = ?appended.event.kind, "event");
        appended.durable
    }

    fn created(
        &mut self,
        result: Result<Box<Created>, SupervisorError>,
        reply: Reply<ContainerView>,
    ) {
        let Created { process, record, oom } = match result {
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
        self.record = Some(record);
        if reply.is_closed() {
            // The caller cancelled before the start was journalled: kill it, no event.
            self.freezer(&self.init.id).kill(process.pid, &process.pidfd);
        } else {
            let event = self.lifecycle.started(process.pid);
            reach(Point::ServerStartToBeJournalled);
            self.publish(event);
            reach(Point::ServerStartJournalled);
            self.note_start(&ProcessId::init());
            reach(Point::ServerStartNoted);
            self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
        }
        self.watch(Arc::clone(&self.init), process);
        let _ = reply.send(Ok(self.view()));
    }

    fn note_start(&self, process: &ProcessId) {
        if let Err(error) = self.identity.dir.process(process).set_journalled() {
            tracing::error!(container = %self.identity.key, %error, "cannot record a start; the journal has it for as long as it keeps the event");
        }
    }

    /// Adds a running process and waits for its exit.
    pub(crate) fn watch(&mut self, spec: Arc<ProcessSpec>, process: RunningProcess) {
        let known = Process {
            spec: Arc::clone(&spec),
            pid: process.pid,
            pidfd: Some(Arc::clone(&process.pidfd)),
            link: process.link.clone(),
            killed: false,
        };
        self.processes.insert(spec.id.clone(), known);
        let dir = self.identity.dir.process(&spec.id);
        let without_shim = WithoutShim {
            kill: self.services.settings.on_shim_death == OnShimDeath::Kill,
            freezer: self.freezer(&spec.id),
        };
        let oom = self.oom.clone();
        self.work(async move {
            let exit = process.exit(&dir, without_shim).await;
            if let (ExitStatus::Signal(9), Some(oom)) = (exit.status, oom) {
                oom.look().await;
            }
            Message::Exited { process: spec.id.clone(), exit }
        });
    }

    pub(crate) fn start_exec(
        &mut self,
        spec: Box<ProcessSpec>,
        caller: Caller,
        mut reply: Reply<u32>,
    ) {
        let generation = self.services.generations.next();
        if let Err(replaced) = self.identity.require_same() {
            let _ = reply.send(Err(replaced));
            return;
        }
        if let Err(refusal) = self.lifecycle.admit_exec(&spec.id, generation) {
            let _ = reply.send(Err(self.refused(refusal)));
            return;
        }
        let record = self.record.as_ref();
        let init_ended = self.init_ended.subscribe();
        let new = NewExec {
            caller,
            generation,
            spec: Arc::new(*spec),
            capability_list: record.is_some_and(|record| record.capability_list),
            bundle: record.map(|record| record.bundle.clone()).unwrap_or_default(),
            init_ended,
            oom_score_adj: record.and_then(|record| record.oom_score_adj),
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.work(async move {
            let result = start_exec(&services, &identity, &new, &mut reply).await;
            Message::ExecStarted { spec: new.spec, result, reply }
        });
    }

    fn exec_started(
        &mut self,
        spec: Arc<ProcessSpec>,
        result: Result<RunningProcess, SupervisorError>,
        reply: Reply<u32>,
    ) {
        let process = match result {
            Ok(process) => process,
            Err(error) => {
                self.lifecycle.exec_failed(&spec.id);
                let _ = reply.send(Err(self.or_stopped(error)));
                self.remove_if_over(None);
                return;
            }
        };
        let pid = process.pid;
        if reply.is_closed() {
            // The caller cancelled before the start was journalled: kill it, no event.
            self.freezer(&spec.id).kill(pid, &process.pidfd);
        } else if let Some(event) = self.lifecycle.exec_started(&spec.id, pid) {
            reach(Point::ServerExecToBeJournalled);
            self.publish(event);
            reach(Point::ServerExecJournalled);
            self.note_start(&spec.id);
            reach(Point::ServerExecNoted);
        }
        self.watch(spec, process);
        let _ = reply.send(Ok(pid));
    }

    /// If the container ended during a runtime call, or is about to, that is the error for the caller: what the
    /// runtime says then (a fork without memory, for example) is about a namespace that goes.
    fn or_stopped(&self, error: SupervisorError) -> SupervisorError {
        let init = self.processes.get(&ProcessId::init());
        match error {
            SupervisorError::Oci(_) | SupervisorError::CallerGone
                if init.is_none_or(Process::is_ending) =>
            {
                Refusal::STOPPED.into()
            }
            other => other,
        }
    }
}
