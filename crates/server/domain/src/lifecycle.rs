//! The rules by which a container lives: what is allowed when, and in which order its events come.
//!
//! ```text
//! Starting --> Created --> Running <--> Paused
//!     |           |           |           |
//!     +-----------+-----------+-----------+--> Stopped
//! ```
//!
//! A container that is kept [until its exit](Retention::UntilExit) is created and started in one step, and is
//! removed when it has stopped; its exit is its last event. One that is kept [until it is
//! deleted](Retention::UntilDeleted) waits to be started once it is created, and its exit is published at once and
//! stays readable. In both, the exits of all further processes come before the first one's.

use std::collections::BTreeMap;

use crate::{
    Created, EventKind, Exit, Generation, Phase, ProcessId, ProcessPhase, Refusal, Retention,
};

#[derive(Debug, Clone)]
struct Exec {
    generation: Generation,
    pid: u32,
    phase: ProcessPhase,
}

/// One container's life. Every method that returns an event is the only source of that event, so
/// the order in which it may be called is the order of the stream: the start, then anything, then the
/// exits of further processes, then the exit of the first.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    retention: Retention,
    phase: Phase,
    init: Generation,
    pid: u32,
    /// Whether the container's creation or start was published. No other event precedes that one.
    reported: bool,
    /// Whether the first process's exit was published.
    exit_published: bool,
    /// Whether the first process's exit still waits for those of the others.
    waits_for_execs: bool,
    execs: BTreeMap<ProcessId, Exec>,
}

impl Lifecycle {
    /// A container whose first process has not started yet.
    pub fn new(init: Generation, retention: Retention) -> Self {
        Self {
            retention,
            phase: Phase::Starting,
            init,
            pid: 0,
            reported: false,
            exit_published: false,
            waits_for_execs: true,
            execs: BTreeMap::new(),
        }
    }

    /// Where the container is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How long the container is kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Whether the container's creation or start was published. Until then nobody sees it.
    pub fn is_reported(&self) -> bool {
        self.reported
    }

    /// Whether the first process's exit was published.
    pub fn is_exit_published(&self) -> bool {
        self.exit_published
    }

    /// Where a process is in its life; none if its start was not published. A process without a caller is killed
    /// without an event.
    pub fn process_phase(&self, process: &ProcessId) -> Option<ProcessPhase> {
        if let Some(exec) = self.execs.get(process) {
            let published =
                self.retention == Retention::UntilDeleted || exec.phase != ProcessPhase::Starting;
            return published.then_some(exec.phase);
        }
        let phase = match self.phase {
            Phase::Starting => ProcessPhase::Starting,
            Phase::Created => ProcessPhase::Created,
            Phase::Running | Phase::Paused => ProcessPhase::Running,
            Phase::Stopped(exit) => ProcessPhase::Stopped(exit),
        };
        (process.is_init() && self.reported).then_some(phase)
    }

    /// The runtime has created the container.
    pub fn created(&mut self, created: Created) -> EventKind {
        debug_assert_eq!(self.phase, Phase::Starting);
        self.phase = Phase::Created;
        self.pid = created.pid;
        self.reported = true;
        EventKind::Created(Box::new(created))
    }

    /// The runtime has started the first process.
    pub fn started(&mut self, pid: u32) -> EventKind {
        debug_assert!(matches!(self.phase, Phase::Starting | Phase::Created));
        self.phase = Phase::Running;
        self.pid = pid;
        self.reported = true;
        EventKind::ContainerStarted { pid }
    }

    /// The container was found after a restart. One that has stopped had its exit reported before.
    pub fn reattached(&mut self, pid: u32, phase: Phase) {
        debug_assert_eq!(self.phase, Phase::Starting);
        self.phase = phase;
        self.pid = pid;
        self.reported = true;
        self.exit_published = matches!(phase, Phase::Stopped(_));
    }

    /// Reserves the id of a further process, which is started at once.
    ///
    /// # Errors
    /// If the container does not run, or has such a process.
    pub fn admit_exec(
        &mut self,
        process: &ProcessId,
        generation: Generation,
    ) -> Result<(), Refusal> {
        self.require_free(process)?;
        self.require_running()?;
        let phase = ProcessPhase::Starting;
        self.execs.insert(process.clone(), Exec { generation, pid: 0, phase });
        Ok(())
    }

    /// Reserves the id of a further process, which is started later.
    ///
    /// # Errors
    /// If the container is paused or has stopped, or has such a process.
    pub fn add_exec(
        &mut self,
        process: &ProcessId,
        generation: Generation,
    ) -> Result<EventKind, Refusal> {
        self.require_free(process)?;
        self.require(matches!(self.phase, Phase::Created | Phase::Running))?;
        let phase = ProcessPhase::Created;
        self.execs.insert(process.clone(), Exec { generation, pid: 0, phase });
        Ok(EventKind::ProcessAdded { process: process.clone() })
    }

    /// A further process that was added is to be started. Returns its generation.
    ///
    /// # Errors
    /// If there is none, it was started before, or the container is paused or has stopped.
    pub fn admit_start(&mut self, process: &ProcessId) -> Result<Generation, Refusal> {
        let allowed = self.require(matches!(self.phase, Phase::Created | Phase::Running));
        let exec = self.execs.get_mut(process);
        let exec = exec.ok_or_else(|| Refusal::NoProcess(process.clone()))?;
        if exec.phase != ProcessPhase::Created {
            return Err(Refusal::ProcessPhase { process: process.clone(), phase: exec.phase });
        }
        allowed?;
        exec.phase = ProcessPhase::Starting;
        Ok(exec.generation)
    }

    /// A further process was found after a restart.
    pub fn exec_reattached(
        &mut self,
        process: ProcessId,
        generation: Generation,
        pid: u32,
        phase: ProcessPhase,
    ) {
        self.execs.insert(process, Exec { generation, pid, phase });
    }

    /// The event of a start; none if the container is over.
    pub fn exec_started(&mut self, process: &ProcessId, pid: u32) -> Option<EventKind> {
        let starting = |exec: &&mut Exec| exec.phase == ProcessPhase::Starting;
        let exec = self.execs.get_mut(process).filter(starting)?;
        (exec.phase, exec.pid) = (ProcessPhase::Running, pid);
        let generation = exec.generation;
        Some(EventKind::ProcessStarted { process: process.clone(), generation, pid })
    }

    /// The process could not be started. Its id is free, or it can be started again.
    pub fn exec_failed(&mut self, process: &ProcessId) {
        let Some(exec) = self.execs.get_mut(process) else { return };
        if exec.phase == ProcessPhase::Starting {
            match self.retention {
                Retention::UntilExit => drop(self.execs.remove(process)),
                Retention::UntilDeleted => exec.phase = ProcessPhase::Created,
            }
        }
    }

    /// The process has ended; its id is free, unless its exit is kept. No event for one that was never
    /// reported as started.
    pub fn exec_exited(&mut self, process: &ProcessId, exit: Exit) -> Option<EventKind> {
        let exec = self.execs.get_mut(process).filter(|exec| exec.phase.is_alive())?;
        let started = exec.phase == ProcessPhase::Running;
        let (generation, pid) = (exec.generation, exec.pid);
        match self.retention {
            Retention::UntilExit => drop(self.execs.remove(process)),
            Retention::UntilDeleted => exec.phase = ProcessPhase::Stopped(exit),
        }
        let process = process.clone();
        started.then_some(EventKind::Exited { process, generation, pid, exit })
    }

    /// Forgets a further process that has ended or was not started.
    ///
    /// # Errors
    /// If there is none, or it lives.
    pub fn exec_deleted(&mut self, process: &ProcessId) -> Result<(), Refusal> {
        let exec = self.execs.get(process);
        let phase = exec.ok_or_else(|| Refusal::NoProcess(process.clone()))?.phase;
        if phase.is_alive() {
            return Err(Refusal::ProcessPhase { process: process.clone(), phase });
        }
        self.execs.remove(process);
        Ok(())
    }

    /// The first process has ended. Its event comes from [`Self::removed`] or [`Self::publish_exit`].
    pub fn init_exited(&mut self, exit: Exit) {
        if !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = Phase::Stopped(exit);
        }
    }

    /// The first process's exit does not wait for those of the others any more.
    pub fn give_up_execs(&mut self) {
        self.waits_for_execs = false;
    }

    /// Whether everything that must be reported before the first process's exit was.
    pub fn may_be_removed(&self) -> bool {
        let waits =
            || self.waits_for_execs && self.execs.values().any(|exec| exec.phase.is_alive());
        matches!(self.phase, Phase::Stopped(_)) && !waits()
    }

    /// The first process's exit, once, if it is published before the container is removed.
    pub fn publish_exit(&mut self) -> Option<EventKind> {
        let is_due = self.retention == Retention::UntilDeleted && !self.exit_published;
        let event = self.exit().filter(|_| is_due && self.may_be_removed())?;
        self.exit_published = true;
        Some(event)
    }

    /// The container is gone; the last event of its life, if it had any.
    pub fn removed(&self) -> Option<EventKind> {
        match (self.retention, self.phase) {
            (Retention::UntilExit, _) => self.exit().filter(|_| self.may_be_removed()),
            (Retention::UntilDeleted, Phase::Stopped(exit)) if self.exit_published => {
                Some(EventKind::Deleted { pid: self.pid, exit })
            }
            _ => None,
        }
    }

    fn exit(&self) -> Option<EventKind> {
        let Phase::Stopped(exit) = self.phase else { return None };
        let (process, generation, pid) = (ProcessId::init(), self.init, self.pid);
        self.reported.then_some(EventKind::Exited { process, generation, pid, exit })
    }

    fn require_free(&self, process: &ProcessId) -> Result<(), Refusal> {
        if process.is_init() || self.execs.contains_key(process) {
            return Err(Refusal::ProcessTaken(process.clone()));
        }
        Ok(())
    }

    /// # Errors
    /// Unless the first process waits to be started.
    pub fn require_created(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Created))
    }

    /// # Errors
    /// Unless the first process lives and is not frozen.
    pub fn require_running(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Running))
    }

    /// # Errors
    /// Unless the container is frozen.
    pub fn require_paused(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Paused))
    }

    /// # Errors
    /// Unless the container has a living first process that was started.
    pub fn require_alive(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Running | Phase::Paused))
    }

    /// # Errors
    /// Unless the container has a living first process, started or not.
    pub fn require_process(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Created | Phase::Running | Phase::Paused))
    }

    /// # Errors
    /// If the container lives, once it was started.
    pub fn require_deletable(&self) -> Result<(), Refusal> {
        self.require(matches!(self.phase, Phase::Created | Phase::Stopped(_)))
    }

    fn require(&self, allowed: bool) -> Result<(), Refusal> {
        if allowed { Ok(()) } else { Err(Refusal::Phase(self.phase)) }
    }

    /// The runtime has frozen the container. No event if it ended meanwhile.
    pub fn paused(&mut self) -> Option<EventKind> {
        self.require_running().ok()?;
        self.phase = Phase::Paused;
        Some(EventKind::Paused)
    }

    /// The runtime has thawed the container. No event if it ended meanwhile.
    pub fn resumed(&mut self) -> Option<EventKind> {
        self.require_paused().ok()?;
        self.phase = Phase::Running;
        Some(EventKind::Resumed)
    }

    /// The kernel killed a process because the container ran out of memory. No event before the container's start was
    /// published; the caller asks again then.
    pub fn out_of_memory(&self) -> Option<EventKind> {
        (self.reported && !self.exit_published).then_some(EventKind::OutOfMemory)
    }
}
