//! What a container's task does when it is asked.

use std::sync::Arc;

use gantry_domain::{ConsoleSize, ProcessId, Refusal};
use gantry_failpoints::{Point, reach};
use gantry_kernel::cgroup::{Cgroup, CgroupError, LimitError};
use gantry_runtime::checkpoint::{self, CheckpointRequest};
use gantry_shim_proto::ToShim;

use crate::{
    Services, SupervisorError,
    actor::{Actor, Member, Message, Operation},
    create::Identity,
    handle::{ContainerView, NewLimits, Reply, Request},
};

impl Actor {
    pub(crate) fn request(&mut self, request: Request) {
        // A caller that is gone needs no answer: sends to it may fail.
        match request {
            Request::View(reply) => {
                let _ = reply.send(self.alive_view());
            }
            Request::Exec(spec, caller, reply) => self.start_exec(spec, caller, reply),
            Request::Signal { process, signal, reply } => {
                self.signal(&process, signal, reply);
            }
            Request::Resize { process, size, reply } => {
                let _ = reply.send(self.resize(&process, size));
            }
            Request::CloseStdin { process, reply } => {
                let _ = reply.send(self.close_stdin(&process));
            }
            Request::Pause(reply) => self.pause(reply),
            Request::Resume(reply) => self.resume(reply),
            Request::Update(limits, reply) => {
                let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
                let cgroup = self.cgroup.clone();
                self.operate(Operation::Update, reply, async move {
                    update(&services, &identity, cgroup.as_deref(), *limits).await
                });
            }
            Request::Checkpoint(dir, config, reply) => {
                let init = self.members.get(&ProcessId::init()).map_or(0, |member| member.pid);
                let container = self.identity.key.id.clone();
                let request = CheckpointRequest { container, init, dir, config: *config };
                let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
                self.operate(Operation::Checkpoint, reply, async move {
                    let disks = &services.disks;
                    let _turn = services.turn_of_change(&identity).await;
                    let runtime = (&services.runtimes, &identity.runtime);
                    Ok(checkpoint::create(disks, runtime, request).await?)
                });
            }
        }
    }

    pub(crate) fn view(&self) -> ContainerView {
        let reported = self.members.iter().filter(|(id, _)| self.lifecycle.is_process_reported(id));
        let mut processes: Vec<_> =
            reported.map(|(_, member)| (Arc::clone(&member.spec), member.pid)).collect();
        processes.sort_by_key(|(spec, _)| !spec.id.is_init());
        let record = self.record.as_ref();
        ContainerView {
            id: self.identity.key.id.clone(),
            bundle: record.map(|record| record.bundle.clone()).unwrap_or_default(),
            runtime: self.identity.runtime.name().to_owned(),
            labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
            phase: self.lifecycle.phase(),
            processes,
            cgroup: self.cgroup.clone(),
            is_stale: self.reattaching.is_some(),
        }
    }

    /// What others see of it while its task does not answer.
    pub(crate) fn show(&self) {
        self.last_known.set(self.lifecycle.is_reported().then(|| self.view()));
    }

    /// A container that was not reported yet is not known to anyone.
    fn alive_view(&self) -> Result<ContainerView, SupervisorError> {
        if self.lifecycle.is_reported() { Ok(self.view()) } else { Err(self.not_found()) }
    }

    fn not_found(&self) -> SupervisorError {
        SupervisorError::ContainerNotFound(self.identity.key.id.clone())
    }

    /// A container that nobody was told of is not there, whatever it is doing.
    pub(crate) fn refused(&self, refusal: Refusal) -> SupervisorError {
        if self.lifecycle.is_reported() { refusal.into() } else { self.not_found() }
    }

    pub(crate) fn member(&self, process: &ProcessId) -> Result<&Member, SupervisorError> {
        if !self.lifecycle.is_reported() {
            return Err(self.not_found());
        }
        let reported = self.lifecycle.is_process_reported(process);
        let member = self.members.get(process).filter(|_| reported);
        member.ok_or_else(|| match self.ended.contains(process) {
            true => SupervisorError::ProcessForgotten(process.clone()),
            false => SupervisorError::ProcessNotFound(process.clone()),
        })
    }

    /// Without effect on a process that has no terminal: a daemon does not always know.
    fn resize(&self, process: &ProcessId, size: ConsoleSize) -> Result<(), SupervisorError> {
        if !self.member(process)?.spec.terminal {
            return Ok(());
        }
        self.tell_shim(process, &ToShim::Resize { width: size.width, height: size.height })
    }

    /// OK for an ended process: a daemon closes stdin of every process whose stdin it has copied, often after
    /// the exit.
    fn close_stdin(&self, process: &ProcessId) -> Result<(), SupervisorError> {
        match self.member(process) {
            Ok(member) if !member.has_ended() => match self.tell_shim(process, &ToShim::CloseStdin)
            {
                Err(SupervisorError::ProcessExited(_)) => Ok(()),
                told => told,
            },
            Ok(_) | Err(SupervisorError::ProcessForgotten(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn tell_shim(&self, process: &ProcessId, record: &ToShim) -> Result<(), SupervisorError> {
        let Some(link) = &self.member(process)?.link else {
            let source = std::io::ErrorKind::NotConnected.into();
            return Err(SupervisorError::Shim { process: process.clone(), source });
        };
        link.send(record).map_err(|source| match source.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                SupervisorError::ProcessExited(process.clone())
            }
            _ => SupervisorError::Shim { process: process.clone(), source },
        })
    }

    fn pause(&mut self, reply: Reply<()>) {
        if let Err(refusal) = self.lifecycle.require_running() {
            let _ = reply.send(Err(self.refused(refusal)));
            return;
        }
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.operate(Operation::Pause, reply, async move {
            let _turn = services.turn_of_change(&identity).await;
            Ok(services.runtimes.pause(&identity.runtime, &identity.key.id).await?)
        });
    }

    fn resume(&mut self, reply: Reply<()>) {
        if let Err(refusal) = self.lifecycle.require_paused() {
            let _ = reply.send(Err(self.refused(refusal)));
            return;
        }
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        let cgroup = self.cgroup.clone();
        self.operate(Operation::Resume, reply, async move {
            resume(&services, &identity, cgroup.as_deref()).await
        });
    }

    /// Has the runtime change the container, one change at a time.
    fn operate(
        &mut self,
        operation: Operation,
        reply: Reply<()>,
        call: impl Future<Output = Result<(), SupervisorError>> + Send + 'static,
    ) {
        let allowed = match (self.lifecycle.require_alive(), self.operation) {
            (Err(refusal), _) => Err(self.refused(refusal)),
            (Ok(()), Some(other)) => Err(SupervisorError::Busy(other.name())),
            (Ok(()), None) => self.identity.require_same(),
        };
        if let Err(error) = allowed {
            let _ = reply.send(Err(error));
            return;
        }
        self.operation = Some(operation);
        self.work(async move {
            let result = call.await;
            Message::Operated { operation, result, reply }
        });
    }

    pub(crate) fn operated(
        &mut self,
        operation: Operation,
        result: Result<(), SupervisorError>,
        reply: Reply<()>,
    ) {
        self.operation = None;
        if result.is_ok() {
            reach(Point::ServerOperated);
        }
        let paused = match (operation, &result) {
            (Operation::Pause, Ok(())) => Some(true),
            (Operation::Resume, Ok(())) => Some(false),
            // The runtime may have been killed halfway: what it left counts.
            (Operation::Pause | Operation::Resume, Err(_)) => {
                self.cgroup.as_ref().and_then(|cgroup| cgroup.is_frozen().ok())
            }
            (Operation::Update | Operation::Checkpoint, _) => None,
        };
        if let Some(paused) = paused {
            self.tell_pause(paused);
        }
        if operation == Operation::Pause {
            self.release_killed();
        }
        let _ = reply.send(result);
    }

    /// Publishes `pause` or `resume` if the state has changed.
    pub(crate) fn tell_pause(&mut self, paused: bool) {
        let event = if paused { self.lifecycle.paused() } else { self.lifecycle.resumed() };
        if let Some(event) = event {
            self.publish(event);
            reach(Point::ServerOperationJournalled);
            self.note_pause(paused);
            reach(Point::ServerOperationNoted);
        }
    }

    fn note_pause(&mut self, paused: bool) {
        let Some(record) = &mut self.record else { return };
        record.paused = paused;
        if let Err(error) = self.identity.dir.write(record) {
            tracing::error!(container = %self.identity.key, %error, "cannot record a pause; the journal has it");
        }
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
    limits: NewLimits,
) -> Result<(), SupervisorError> {
    if !limits.direct.is_empty() {
        let cgroup = cgroup.ok_or(CgroupError::Removed);
        let cgroup = cgroup.map_err(|source| LimitError::Refused { limit: "resources", source })?;
        cgroup.limit(&limits.direct)?;
    }
    if let Some(resources) = &limits.runtime {
        let _turn = services.turn_of_change(identity).await;
        services.runtimes.update(&identity.runtime, &identity.key.id, resources).await?;
    }
    Ok(())
}
