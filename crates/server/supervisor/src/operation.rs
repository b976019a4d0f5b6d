//! Runtime calls that change the container as a whole: pause, resume, update, checkpoint.
//!
//! ```text
//! Idle -> Changing -> Idle              one change at a time; requests are served meanwhile
//! Idle | Changing -> Killing            init has ended: whatever else lives is killed
//! Killing -> Killed -> Removing -> Gone every exec's exit is published before the removal
//!               `-> Ended -'            a container that is kept waits here until its caller deletes it
//! ```
//!
//! A change that is under way when init ends still reports back, and changes nothing any more. What is asked for
//! during a change waits for its end where the container is kept (see [`crate::pending`]).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::{EventKind, Lifecycle, ProcessId, Refusal};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{
    Program,
    cgroup::{Cgroup, CgroupError, LimitError},
};
use gantry_runtime::checkpoint::{self, CheckpointRequest, NewImage};

use crate::{
    Services, SupervisorError,
    actor::{Actor, Message},
    create::Identity,
    handle::{NewLimits, Reply},
};

/// What is being done with the container as a whole.
pub(crate) enum Activity {
    /// Nothing.
    Idle,
    /// The runtime changes it.
    Changing(Arc<Operation>),
    /// Init has ended, and the other processes are being killed.
    Killing,
    /// No process is left; exits of execs may still have to be published.
    Killed,
    /// Its exit is published, and its caller has not deleted it yet.
    Ended,
    /// Runtime and kernel are being asked to forget it.
    Removing,
    /// Its exit is published, its id is free, and its actor ends.
    Gone,
}

/// A change of the container as a whole.
pub(crate) enum Operation {
    Start(Waiting),
    Pause,
    Resume,
    Update(Box<NewLimits>),
    Checkpoint(Box<CheckpointRequest>),
    /// Into a directory of its caller's own.
    Image(Box<NewImage>),
}

/// A first process that waits to be started.
#[derive(Default)]
pub(crate) struct Waiting {
    pid: u32,
    /// What it executes until then, if that is known.
    program: Option<Program>,
    bundle: PathBuf,
}

impl Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Update(_) => "update",
            Self::Checkpoint(_) | Self::Image(_) => "checkpoint",
        }
    }

    fn admit(&self, lifecycle: &Lifecycle) -> Result<(), Refusal> {
        match self {
            Self::Start(_) => lifecycle.require_created(),
            Self::Pause => lifecycle.require_running(),
            Self::Resume => lifecycle.require_paused(),
            Self::Update(_) => lifecycle.require_process(),
            Self::Checkpoint(_) | Self::Image(_) => lifecycle.require_alive(),
        }
    }

    async fn run(
        &self,
        services: &Services,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
    ) -> Result<(), SupervisorError> {
        match self {
            Self::Start(waiting) => start(services, identity, waiting).await,
            Self::Pause => {
                let _turn = services.turn_of_change(identity).await;
                Ok(services.runtimes.pause(&identity.runtime, &identity.key.id).await?)
            }
            Self::Resume => resume(services, identity, cgroup).await,
            Self::Update(limits) => update(services, identity, cgroup, limits).await,
            Self::Checkpoint(request) => {
                let _turn = services.turn_of_change(identity).await;
                let (runtimes, runtime) = (&services.runtimes, &identity.runtime);
                Ok(checkpoint::create(&services.disks, runtimes, runtime, (**request).clone())
                    .await?)
            }
            Self::Image(new) => {
                let _turn = services.turn_of_change(identity).await;
                let (runtimes, runtime) = (&services.runtimes, &identity.runtime);
                Ok(checkpoint::create_at(&services.disks, runtimes, runtime, (**new).clone())
                    .await?)
            }
        }
    }

    /// Whether the container is paused afterwards, if the operation can have changed that.
    fn pauses(&self, succeeded: bool, cgroup: Option<&Cgroup>) -> Option<bool> {
        match (self, succeeded) {
            (Self::Pause, true) => Some(true),
            (Self::Resume, true) => Some(false),
            // The runtime may have been killed halfway: the state that it left counts.
            (Self::Pause | Self::Resume, false) => {
                cgroup.and_then(|cgroup| cgroup.is_frozen().ok())
            }
            (Self::Start(_) | Self::Update(_) | Self::Checkpoint(_) | Self::Image(_), _) => None,
        }
    }
}

impl Actor {
    pub(crate) async fn operate(&mut self, operation: Operation, reply: Reply<()>) {
        match self.begin(operation).await {
            Ok((operation, change)) => self.work(async move {
                let result = change.await;
                Message::Operated { operation, result, reply }
            }),
            // A caller that is gone needs no answer.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Has the runtime start the first process of a container that was created.
    pub(crate) async fn start_init(&mut self, reply: Reply<u32>) {
        let pid = self.processes.get(&ProcessId::init()).map_or(0, |init| init.pid);
        let waiting = self.record.as_ref().map(|record| Waiting {
            pid,
            program: record.waits_in,
            bundle: record.bundle.clone(),
        });
        match self.begin(Operation::Start(waiting.unwrap_or_default())).await {
            Ok((_, start)) => self.work(async move {
                let result = start.await;
                Message::Started { result, reply }
            }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Begins an operation, if it is allowed now. The future is the operation itself.
    async fn begin(
        &mut self,
        operation: Operation,
    ) -> Result<
        (Arc<Operation>, impl Future<Output = Result<(), SupervisorError>> + use<>),
        SupervisorError,
    > {
        let operation = self.admit_operation(operation).await?;
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        let (cgroup, running) = (self.cgroup.clone(), Arc::clone(&operation));
        let change = async move { running.run(&services, &identity, cgroup.as_deref()).await };
        Ok((operation, change))
    }

    /// Marks an operation as under way, if it is allowed now.
    pub(crate) async fn admit_operation(
        &mut self,
        operation: Operation,
    ) -> Result<Arc<Operation>, SupervisorError> {
        self.admit(operation.admit(&self.lifecycle))?;
        self.services.require_same(&self.identity).await?;
        let operation = Arc::new(operation);
        self.activity = Activity::Changing(Arc::clone(&operation));
        Ok(operation)
    }

    /// An error if the container's state does not allow something, or while an operation is under way.
    pub(crate) fn admit(&self, allowed: Result<(), Refusal>) -> Result<(), SupervisorError> {
        match (allowed, &self.activity) {
            (Err(refusal), _) => Err(self.refused(refusal)),
            (Ok(()), Activity::Changing(other)) => Err(SupervisorError::Busy(other.name())),
            (Ok(()), _) => Ok(()),
        }
    }

    /// The runtime has started the first process, or has not. An exit meanwhile comes after the start.
    pub(crate) async fn started(&mut self, result: Result<(), SupervisorError>, reply: Reply<u32>) {
        self.activity = Activity::Idle;
        let pid = self.processes.get(&ProcessId::init()).map_or(0, |known| known.pid);
        if result.is_ok() {
            reach(Point::ServerOperated);
            self.publish_start(pid).await;
        }
        let _ = reply.send(result.map(|()| pid).map_err(|error| self.or_stopped(error)));
    }

    /// What had to wait for the end of an operation, an exit first. No part of the call that has asked for the operation.
    pub(crate) async fn operation_over(&mut self) {
        if let Some(exit) = self.early_exit.take() {
            self.exited(&ProcessId::init(), exit).await;
        }
        self.go_on_with_pending().await;
    }

    /// Publishes the start of a container that was created.
    pub(crate) async fn publish_start(&mut self, pid: u32) {
        let event = self.lifecycle.started(pid);
        self.publish(event).await;
        reach(Point::ServerStartJournalled);
        if let Err(error) = self.note(|record| record.started = true).await {
            tracing::error!(container = %self.identity.key, %error, "cannot record a start; the journal has it for as long as it keeps the event");
        }
    }

    pub(crate) async fn operated(
        &mut self,
        operation: &Operation,
        result: Result<(), SupervisorError>,
        reply: Reply<()>,
    ) {
        if matches!(self.activity, Activity::Changing(_)) {
            self.activity = Activity::Idle;
        }
        if result.is_ok() {
            reach(Point::ServerOperated);
        }
        if let Some(paused) = operation.pauses(result.is_ok(), self.cgroup.as_deref()) {
            self.publish_pause(paused).await;
        }
        if matches!(operation, Operation::Pause) {
            self.release_killed();
        }
        if let (Operation::Image(new), Ok(())) = (operation, &result) {
            self.publish(EventKind::Checkpointed { path: new.path.clone() }).await;
        }
        let result =
            if self.is_kept() { result.map_err(|error| self.or_stopped(error)) } else { result };
        let _ = reply.send(result);
    }

    /// Whether a checkpoint that ends the container is under way; its event is published before the exit.
    pub(crate) fn is_in_last_image(&self) -> bool {
        matches!(&self.activity, Activity::Changing(operation)
            if matches!(&**operation, Operation::Image(new) if new.options.exit))
    }

    /// Whether the runtime starts the first process at the moment.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(&self.activity, Activity::Changing(operation) if matches!(**operation, Operation::Start(_)))
    }

    /// Whether the runtime thaws the container at the moment.
    pub(crate) fn is_resuming(&self) -> bool {
        matches!(&self.activity, Activity::Changing(operation) if matches!(**operation, Operation::Resume))
    }
}

/// A runtime that was killed, or whose server was, may have started the process without having noted that: asked once
/// more, runc and crun wait for ever.
async fn start(
    services: &Services,
    identity: &Identity,
    waiting: &Waiting,
) -> Result<(), SupervisorError> {
    let Waiting { pid, program, bundle } = waiting;
    let _turn = services.turn_of_change(identity).await;
    if services.has_left(*program, bundle, *pid).await {
        return Ok(());
    }
    match services.runtimes.start(&identity.runtime, &identity.key.id).await {
        Err(_) if services.has_left(*program, bundle, *pid).await => Ok(()),
        other => Ok(other?),
    }
}

impl Services {
    /// What a process executes, which may be on a file system that does not answer, as the bundle's.
    pub(crate) async fn program(&self, bundle: &Path, pid: u32) -> Option<Program> {
        let program = move |_: &Path| Program::of(pid);
        self.disks.run("find the program of a process of", bundle, program).await.ok().flatten()
    }

    /// Whether a process executes something else than this by now.
    pub(crate) async fn has_left(&self, program: Option<Program>, bundle: &Path, pid: u32) -> bool {
        let Some(program) = program else { return false };
        self.program(bundle, pid).await.is_some_and(|now| now != program)
    }
}

/// A pause killed halfway may leave a container that never freezes completely: a process in execve waits in
/// the kernel for its frozen threads to die. runc waits for it in every command.
async fn resume(
    services: &Services,
    identity: &Identity,
    cgroup: Option<&Cgroup>,
) -> Result<(), SupervisorError> {
    if let Some(cgroup) = cgroup
        && cgroup.is_freezing().unwrap_or(false)
        && cgroup.thaw().is_ok()
    {
        return Ok(());
    }
    let _turn = services.turn_of_change(identity).await;
    Ok(services.runtimes.resume(&identity.runtime, &identity.key.id).await?)
}

/// Sets first the limits that may be refused, so that a refused update is rarely half done.
async fn update(
    services: &Services,
    identity: &Identity,
    cgroup: Option<&Cgroup>,
    limits: &NewLimits,
) -> Result<(), SupervisorError> {
    if !limits.direct.is_empty() {
        let cgroup = cgroup.ok_or(CgroupError::Removed);
        let cgroup = cgroup.map_err(|cause| LimitError::Refused { limit: "resources", cause })?;
        cgroup.limit(&limits.direct)?;
    }
    if let Some(resources) = &limits.runtime {
        let _turn = services.turn_of_change(identity).await;
        services.runtimes.update(&identity.runtime, &identity.key.id, resources).await?;
    }
    Ok(())
}
