//! Serves the requests to a container's task.

use std::sync::Arc;

use gantry_domain::{ConsoleSize, Exit, Phase, ProcessId, ProcessPhase, Refusal};
use gantry_failpoints::{Point, reach};
use gantry_runtime::checkpoint::{CheckpointRequest, NewImage};
use gantry_shim_proto::ToShim;

use crate::{
    SupervisorError,
    actor::{Actor, Process},
    handle::{ContainerView, DeletedProcess, MAILBOX, ProcessView, Reply, Request},
    operation::{Activity, Operation},
    pending::Pending,
};

impl Actor {
    pub(crate) async fn request(&mut self, request: Request) {
        // A caller that is gone needs no answer: sends to it may fail.
        match request {
            Request::View(reply) => {
                let _ = reply.send(self.alive_view());
            }
            Request::Made(reply) if self.lifecycle.is_reported() => {
                drop(reply.send(Ok(self.view())));
            }
            Request::Made(reply) if self.repeated.len() < MAILBOX => self.repeated.push(reply),
            Request::Made(reply) => drop(reply.send(Err(SupervisorError::Overloaded))),
            Request::Created(reply) => self.wait_until_created(reply),
            Request::Exec(spec, caller, reply) => self.start_exec(spec, caller, reply).await,
            Request::Signal { process, signal, reply } => {
                self.signal(&process, signal, reply);
            }
            Request::Resize { process, size, reply } => {
                let _ = reply.send(self.resize(&process, size));
            }
            Request::CloseStdin { process, reply } => {
                let _ = reply.send(self.close_stdin(&process));
            }
            Request::Start(process, caller, reply) if process.is_init() => {
                self.in_turn(Pending::Start(caller, reply)).await;
            }
            Request::Start(process, caller, reply) => {
                self.start_added(&process, caller, reply).await;
            }
            Request::AddExec(spec, reply) => {
                let _ = reply.send(self.add_exec(*spec).await);
                self.show();
            }
            Request::Wait(process, reply) => self.wait_for(process, reply),
            Request::Delete(process, reply) if process.is_init() => {
                self.in_turn(Pending::Delete(reply)).await;
            }
            Request::Delete(process, reply) => {
                let _ = reply.send(self.delete_exec(&process).await);
                self.show();
            }
            Request::SignalAll(signal, reply) => self.signal_all(signal, reply),
            Request::Pause(reply) => self.in_turn(Pending::Operate(Operation::Pause, reply)).await,
            Request::Resume(reply) => {
                self.in_turn(Pending::Operate(Operation::Resume, reply)).await;
            }
            Request::Update(limits, reply) => {
                self.in_turn(Pending::Operate(Operation::Update(limits), reply)).await;
            }
            Request::Checkpoint(dir, config, reply) => {
                let (container, init) = (self.identity.key.id.clone(), self.init_pid());
                let request = CheckpointRequest { container, init, dir, config: *config };
                let operation = Operation::Checkpoint(Box::new(request));
                self.in_turn(Pending::Operate(operation, reply)).await;
            }
            Request::Image(path, work, options, reply) => {
                let (container, init) = (self.identity.key.id.clone(), self.init_pid());
                let new = NewImage { container, init, path, work, options: *options };
                self.in_turn(Pending::Operate(Operation::Image(Box::new(new)), reply)).await;
            }
        }
    }

    /// The host's pid of the first process.
    fn init_pid(&self) -> u32 {
        self.processes.get(&ProcessId::init()).map_or(0, |known| known.pid)
    }

    fn wait_until_created(&mut self, reply: Reply<()>) {
        if self.lifecycle.is_reported() {
            let _ = reply.send(Ok(()));
            return;
        }
        match &mut self.early {
            Some(early) if early.len() < MAILBOX => early.push(reply),
            Some(_) => drop(reply.send(Err(SupervisorError::Overloaded))),
            None => drop(reply.send(Err(self.not_found()))),
        }
    }

    fn wait_for(&mut self, process: ProcessId, reply: Reply<Exit>) {
        if let Err(error) = self.known_process(&process) {
            let _ = reply.send(Err(error));
            return;
        }
        let published = !process.is_init() || self.lifecycle.is_exit_published();
        match self.exit_of(&process).filter(|_| published) {
            Some(exit) => drop(reply.send(Ok(exit))),
            None => self.waiters.add(process, reply),
        }
    }

    /// Deletes the container.
    pub(crate) async fn delete_all(&mut self, reply: Reply<DeletedProcess>) {
        if let Err(error) = self.admit(self.lifecycle.require_deletable()) {
            let _ = reply.send(Err(error));
            return;
        }
        self.deleters.push(reply);
        match (self.lifecycle.phase(), &self.activity) {
            (Phase::Created, _) if self.is_dormant() => self.end_dormant().await,
            (Phase::Created, _) => self.kill_init(),
            (_, Activity::Ended) => self.remove(None),
            // Its exit is published first, or it is being removed.
            _ => {}
        }
    }

    pub(crate) fn view(&self) -> ContainerView {
        let seen = self.processes.iter().filter_map(|(id, known)| {
            let phase = self.lifecycle.process_phase(id)?;
            let (spec, pidfd) = (Arc::clone(&known.spec), known.pidfd.clone());
            Some(ProcessView { spec, pid: known.pid, phase, pidfd })
        });
        let mut processes: Vec<_> = seen.collect();
        processes.sort_by_key(|process| !process.spec.id.is_init());
        let record = self.record.as_ref();
        ContainerView {
            id: self.identity.key.id.clone(),
            bundle: record.map(|record| record.bundle.clone()).unwrap_or_default(),
            runtime: self.identity.runtime.name().to_owned(),
            labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
            event_labels: record
                .map(crate::state_dir::ContainerRecord::event_labels)
                .unwrap_or_default(),
            phase: self.lifecycle.phase(),
            processes,
            cgroup: self.cgroup.clone(),
            is_stale: self.reattaching.is_some(),
        }
    }

    /// Updates what others see of the container while its task does not answer.
    pub(crate) fn show(&mut self) {
        if self.reattaching.is_none() && !self.has_ended_unseen() {
            self.left_with = None;
        }
        self.last_known.set(self.lifecycle.is_reported().then(|| self.view()), self.left_with);
    }

    /// The first process has ended, and how is not known yet.
    fn has_ended_unseen(&self) -> bool {
        let lives = matches!(self.lifecycle.phase(), Phase::Running | Phase::Paused);
        lives && self.processes.get(&ProcessId::init()).is_none_or(Process::has_ended)
    }

    /// A container whose start was not published yet is not found.
    fn alive_view(&self) -> Result<ContainerView, SupervisorError> {
        if self.lifecycle.is_reported() { Ok(self.view()) } else { Err(self.not_found()) }
    }

    fn not_found(&self) -> SupervisorError {
        SupervisorError::ContainerNotFound(self.identity.key.id.clone())
    }

    /// A container whose start was not published is not found, whatever its state.
    pub(crate) fn refused(&self, refusal: Refusal) -> SupervisorError {
        if self.lifecycle.is_reported() { refusal.into() } else { self.not_found() }
    }

    pub(crate) fn known_process(&self, process: &ProcessId) -> Result<&Process, SupervisorError> {
        if !self.lifecycle.is_reported() {
            return Err(self.not_found());
        }
        let reported = self.lifecycle.process_phase(process).is_some();
        let known = self.processes.get(process).filter(|_| reported);
        known.ok_or_else(|| match self.ended.contains(process) {
            true => SupervisorError::ProcessForgotten(process.clone()),
            false => SupervisorError::ProcessNotFound(process.clone()),
        })
    }

    /// Without effect on a process that has no terminal: a daemon does not always know.
    fn resize(&self, process: &ProcessId, size: ConsoleSize) -> Result<(), SupervisorError> {
        let has_terminal = self.known_process(process)?.spec.terminal;
        if self.is_kept() && self.exit_of(process).is_some() {
            return Err(SupervisorError::ProcessExited(process.clone()));
        }
        if !has_terminal {
            return Ok(());
        }
        self.send_to_shim(process, &ToShim::Resize { width: size.width, height: size.height })
    }

    /// OK for an ended process: a daemon closes stdin of every process whose stdin it has copied, often after
    /// the exit. That of a process which is being started is closed when there is a way to tell its shim: who has
    /// written all does not wait for the start's answer.
    fn close_stdin(&mut self, process: &ProcessId) -> Result<(), SupervisorError> {
        let is_starting = self.lifecycle.process_phase(process) == Some(ProcessPhase::Starting);
        if let Some(known) = self.processes.get_mut(process)
            && is_starting
            && known.link.is_none()
        {
            known.stdin_closed = true;
            return Ok(());
        }
        match self.known_process(process) {
            Ok(known) if !known.has_ended() => {
                match self.send_to_shim(process, &ToShim::CloseStdin) {
                    Err(SupervisorError::ProcessExited(_)) => Ok(()),
                    sent => sent,
                }
            }
            Ok(_) | Err(SupervisorError::ProcessForgotten(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn send_to_shim(&self, process: &ProcessId, record: &ToShim) -> Result<(), SupervisorError> {
        let known = self.known_process(process)?;
        if self.exit_of(process).is_some() {
            return Err(SupervisorError::ProcessExited(process.clone()));
        }
        let Some(link) = &known.link else {
            let phase = self.lifecycle.process_phase(process);
            if let Some(phase @ (ProcessPhase::Created | ProcessPhase::Starting)) = phase {
                return Err(Refusal::ProcessPhase { process: process.clone(), phase }.into());
            }
            let cause = std::io::ErrorKind::NotConnected.into();
            return Err(SupervisorError::Shim { process: process.clone(), cause });
        };
        link.send(record).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                SupervisorError::ProcessExited(process.clone())
            }
            _ => SupervisorError::Shim { process: process.clone(), cause },
        })
    }

    /// Publishes `pause` or `resume` if the state has changed.
    pub(crate) async fn publish_pause(&mut self, paused: bool) {
        let event = if paused { self.lifecycle.paused() } else { self.lifecycle.resumed() };
        if let Some(event) = event {
            self.publish(event).await;
            reach(Point::ServerOperationJournalled);
            self.note_pause(paused).await;
            reach(Point::ServerOperationNoted);
        }
    }

    async fn note_pause(&mut self, paused: bool) {
        if let Err(error) = self.note(|record| record.paused = paused).await {
            tracing::error!(container = %self.identity.key, %error, "cannot record a pause; the journal has it");
        }
    }
}
