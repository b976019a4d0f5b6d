//! The rest of the server's handle on a container: it sends requests to the container's task.

use std::{path::PathBuf, sync::Arc};

use gantry_domain::{
    ConsoleSize, ContainerId, ContainerKey, Exit, Labels, Phase, ProcessId, ProcessPhase,
    ProcessSpec,
};
use gantry_kernel::{
    PidFd,
    cgroup::{Cgroup, DirectLimits},
};
use gantry_runtime::{
    checkpoint::{CheckpointConfig, ImageOptions},
    step, traced,
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tracing::Span;

use crate::{Caller, IdempotencyKey, SupervisorError, actor::Message, last_known::LastKnown};

/// Requests that may wait for one container; the next one is refused.
pub(crate) const MAILBOX: usize = 1024;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, SupervisorError>>;

pub(crate) type Answer<T> = oneshot::Receiver<Result<T, SupervisorError>>;

/// A request to a container's task.
pub(crate) enum Request {
    View(Reply<ContainerView>),
    /// Waits until the container is made.
    Made(Reply<ContainerView>),
    /// Waits for the end of a create whose runtime is at work.
    Created(Reply<()>),
    Exec(Box<ProcessSpec>, Caller, Reply<u32>),
    Signal {
        process: ProcessId,
        signal: i32,
        reply: Reply<()>,
    },
    Resize {
        process: ProcessId,
        size: ConsoleSize,
        reply: Reply<()>,
    },
    CloseStdin {
        process: ProcessId,
        reply: Reply<()>,
    },
    Pause(Reply<()>),
    Resume(Reply<()>),
    Update(Box<NewLimits>, Reply<()>),
    /// Runs the first process of a created container, or a further one that was added.
    Start(ProcessId, Caller, Reply<u32>),
    /// Adds a further process.
    AddExec(Box<ProcessSpec>, Reply<()>),
    /// Waits for an end.
    Wait(ProcessId, Reply<Exit>),
    /// Removes a process that has ended or was never started; the whole container if it is the first one.
    Delete(ProcessId, Reply<DeletedProcess>),
    /// Sends a signal to all processes.
    SignalAll(i32, Reply<()>),
    /// Into a directory for all checkpoints of the container.
    Checkpoint(PathBuf, Box<CheckpointConfig>, Reply<()>),
    /// Into this directory, with CRIU's logs in the other one.
    Image(PathBuf, Option<PathBuf>, Box<ImageOptions>, Reply<()>),
}

impl Request {
    /// What it is called in a trace. A question is no step of its own.
    fn step(&self, container: &ContainerKey) -> Span {
        let span = match self {
            Self::View(_) | Self::Made(_) | Self::Created(_) | Self::Wait(..) => Span::none(),
            Self::Exec(..) => step("exec"),
            Self::Signal { .. } | Self::SignalAll(..) => step("kill"),
            Self::Resize { .. } => step("resize"),
            Self::CloseStdin { .. } => step("close stdin"),
            Self::Pause(_) => step("pause"),
            Self::Resume(_) => step("resume"),
            Self::Update(..) => step("update"),
            Self::Start(..) => step("start"),
            Self::AddExec(..) => step("add exec"),
            Self::Delete(..) => step("delete"),
            Self::Checkpoint(..) | Self::Image(..) => step("checkpoint"),
        };
        span.record("container.id", container.id.as_str());
        span.record("gantry.namespace", container.namespace.name());
        span
    }

    /// Answers with an error. The caller may have gone.
    pub(crate) fn refuse(self, error: SupervisorError) {
        let _ = match self {
            Self::View(reply) | Self::Made(reply) => reply.send(Err(error)).is_ok(),
            Self::Exec(_, _, reply) | Self::Start(_, _, reply) => reply.send(Err(error)).is_ok(),
            Self::Wait(_, reply) => reply.send(Err(error)).is_ok(),
            Self::Delete(_, reply) => reply.send(Err(error)).is_ok(),
            Self::Signal { reply, .. }
            | Self::Resize { reply, .. }
            | Self::CloseStdin { reply, .. }
            | Self::AddExec(_, reply)
            | Self::Created(reply)
            | Self::SignalAll(_, reply)
            | Self::Pause(reply)
            | Self::Resume(reply)
            | Self::Update(_, reply)
            | Self::Image(_, _, _, reply)
            | Self::Checkpoint(_, _, reply) => reply.send(Err(error)).is_ok(),
        };
    }
}

/// Limits that are to change.
#[derive(Debug)]
pub struct NewLimits {
    /// Those that the runtime sets: JSON of the OCI runtime specification's `LinuxResources`.
    pub runtime: Option<String>,
    /// Those that the runtime does not set.
    pub direct: DirectLimits,
}

/// A container as it is at the moment.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Of its namespace.
    pub id: ContainerId,
    /// As its caller gave it.
    pub bundle: PathBuf,
    /// The name or path of the runtime, as its caller gave it.
    pub runtime: String,
    /// Shared, as there can be a quarter of a megabyte of them.
    pub labels: Arc<[String]>,
    /// As its events have them.
    pub event_labels: Labels,
    /// Where it is in its life.
    pub phase: Phase,
    /// The first one first.
    pub processes: Vec<ProcessView>,
    /// None before the runtime has made one.
    pub cgroup: Option<Arc<Cgroup>>,
    /// The actor does not answer, or has not reattached yet.
    pub is_stale: bool,
}

impl ContainerView {
    /// Host pids of the processes that were started by the server's callers, and live.
    pub(crate) fn living(&self) -> impl Iterator<Item = u32> {
        let living = self.processes.iter().filter(|process| process.phase.is_alive());
        living.map(|process| process.pid).filter(|pid| *pid > 0)
    }
}

/// A process as it is at the moment.
#[derive(Debug, Clone)]
pub struct ProcessView {
    /// As its caller described it.
    pub spec: Arc<ProcessSpec>,
    /// On the host, also once it has ended; zero before it is started.
    pub pid: u32,
    /// Where it is in its life.
    pub phase: ProcessPhase,
    /// Tells whether it lives; none before it is started or found, and once it has ended.
    pub pidfd: Option<Arc<PidFd>>,
}

/// A process that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedProcess {
    /// On the host; zero if it was never started.
    pub pid: u32,
    /// How it has ended, if it was ever started.
    pub exit: Option<Exit>,
}

/// A container that the server knows.
#[derive(Clone)]
pub struct ContainerHandle {
    pub(crate) key: ContainerKey,
    pub(crate) mailbox: mpsc::Sender<Message>,
    /// Its start was not published, and it is being removed.
    pub(crate) half_made: bool,
    /// What its caller can repeat the request with that has made it.
    pub(crate) idempotency: Option<Arc<IdempotencyKey>>,
    pub(crate) last_known: LastKnown,
}

impl ContainerHandle {
    /// Of a task that is to read the messages.
    pub(crate) fn new(key: ContainerKey) -> (Self, mpsc::Receiver<Message>) {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let (half_made, idempotency, last_known) = (false, None, LastKnown::default());
        (Self { key, mailbox, half_made, idempotency, last_known }, messages)
    }

    /// Whether both are of one task.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.mailbox.same_channel(&other.mailbox)
    }

    /// The container, once it is made.
    pub(crate) async fn ask_for_made(&self) -> Result<ContainerView, SupervisorError> {
        self.ask(Request::Made).await
    }

    /// If the runtime is making its first process, waits for the end of that. The process's streams are open then,
    /// and who has seen that may ask at once.
    ///
    /// # Errors
    /// If it is not there yet, or not any more.
    pub async fn created(&self) -> Result<(), SupervisorError> {
        if self.half_made {
            return Err(self.gone());
        }
        if self.last_known.is_there() {
            return Ok(());
        }
        self.ask(Request::Created).await
    }

    /// # Errors
    /// If it is not there yet, or not any more.
    pub async fn view(&self) -> Result<ContainerView, SupervisorError> {
        self.ask(Request::View).await
    }

    /// Starts a further process; its pid on the host.
    pub async fn exec(&self, spec: ProcessSpec, caller: Caller) -> Result<u32, SupervisorError> {
        self.ask(|reply| Request::Exec(Box::new(spec), caller, reply)).await
    }

    /// Adds a further process, which [`crate::Supervisor::start_process`] starts.
    ///
    /// # Errors
    /// If the container is paused or has stopped, or has such a process.
    pub async fn add_exec(&self, spec: ProcessSpec) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::AddExec(Box::new(spec), reply)).await
    }

    /// See [`crate::Supervisor::start_process`].
    pub(crate) async fn start(
        &self,
        process: ProcessId,
        caller: Caller,
    ) -> Result<u32, SupervisorError> {
        self.ask(|reply| Request::Start(process, caller, reply)).await
    }

    /// Waits until a process has ended, also before it was started. Its exit can be read until it is deleted.
    ///
    /// # Errors
    /// If there is no such process, or it is deleted before it is started.
    pub async fn wait(&self, process: ProcessId) -> Result<Exit, SupervisorError> {
        self.ask(|reply| Request::Wait(process, reply)).await
    }

    /// Removes a process that has ended or was never started; the whole container if it is the first one.
    ///
    /// # Errors
    /// If there is no such process, or it lives.
    pub async fn delete(&self, process: ProcessId) -> Result<DeletedProcess, SupervisorError> {
        self.ask(|reply| Request::Delete(process, reply)).await
    }

    /// Sends a signal to all processes of the container, also those that its processes have started.
    ///
    /// # Errors
    /// If there is none any more.
    pub async fn signal_all(&self, signal: i32) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::SignalAll(signal, reply)).await
    }

    /// Sends a signal to one process.
    ///
    /// # Errors
    /// If the process is not there, or has ended.
    pub async fn signal(&self, process: ProcessId, signal: i32) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::Signal { process, signal, reply }).await
    }

    /// Gives a terminal a new size; without effect on a process that has none.
    ///
    /// # Errors
    /// If the process is not there, or has ended.
    pub async fn resize(
        &self,
        process: ProcessId,
        size: ConsoleSize,
    ) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::Resize { process, size, reply }).await
    }

    /// Ends the stdin of a process; without effect on one that has ended.
    ///
    /// # Errors
    /// If there has been no such process.
    pub async fn close_stdin(&self, process: ProcessId) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::CloseStdin { process, reply }).await
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// If it does not run, or the runtime cannot do it.
    pub async fn pause(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Pause).await
    }

    /// Thaws all processes.
    ///
    /// # Errors
    /// If it is not paused, or the runtime cannot do it.
    pub async fn resume(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Resume).await
    }

    /// Changes limits.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses one.
    pub async fn update(&self, limits: NewLimits) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::Update(Box::new(limits), reply)).await
    }

    /// Makes a checkpoint in a directory.
    ///
    /// # Errors
    /// If the runtime or CRIU cannot do it.
    pub async fn checkpoint(
        &self,
        dir: PathBuf,
        config: CheckpointConfig,
    ) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::Checkpoint(dir, Box::new(config), reply)).await
    }

    /// Makes a checkpoint in a directory of the caller's own, which is empty or not there. `work` is for CRIU's
    /// logs.
    ///
    /// # Errors
    /// If the runtime or CRIU cannot do it.
    pub async fn image(
        &self,
        path: PathBuf,
        work: Option<PathBuf>,
        options: ImageOptions,
    ) -> Result<(), SupervisorError> {
        self.ask(|reply| Request::Image(path, work, Box::new(options), reply)).await
    }

    /// Unique in its namespace.
    pub fn id(&self) -> &ContainerId {
        &self.key.id
    }

    /// The error for a container that is not there any more.
    pub fn gone(&self) -> SupervisorError {
        SupervisorError::ContainerNotFound(self.key.id.clone())
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, SupervisorError> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let span = request.step(&self.key);
        let asked = async {
            self.post(request)?;
            // The task ends when the container is gone, with requests unanswered.
            answer.await.unwrap_or_else(|_| Err(self.gone()))
        };
        traced(span, asked).await
    }

    /// Asks without waiting for the answer.
    pub(crate) fn send<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<Answer<T>, SupervisorError> {
        let (reply, answer) = oneshot::channel();
        self.post(request(reply)).map(|()| answer)
    }

    fn post(&self, request: Request) -> Result<(), SupervisorError> {
        match self.mailbox.try_send(Message::from(request).in_trace()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(SupervisorError::Overloaded),
            Err(TrySendError::Closed(_)) => Err(self.gone()),
        }
    }
}
