//! The rules by which a container lives: what is allowed when, and in which order its events come.

use std::collections::BTreeMap;

use crate::{EventKind, Exit, ExitStatus, Generation, ProcessId, Timestamp};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The runtime is at work; nothing was reported yet.
    Starting,
    /// Its first process lives.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended; the rest is being cleared away.
    Stopped(Exit),
}

/// Why something is not allowed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("the container is {}", .0.name())]
    Phase(Phase),
    #[error("process {0} exists already")]
    ProcessTaken(ProcessId),
}

impl Refusal {
    /// For a caller that is told before it is known how the container has ended.
    pub const STOPPED: Self =
        Self::Phase(Phase::Stopped(Exit { status: ExitStatus::Unknown, at: Timestamp(0) }));
}

impl Phase {
    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
        }
    }
}

#[derive(Debug, Clone)]
struct Exec {
    generation: Generation,
    started: bool,
}

/// One container's life. Every method that returns an event is the only source of that event, so
/// the order in which it may be called is the order of the stream: start, then anything, then the
/// exits of further processes, then the exit of init.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Phase,
    init: Generation,
    /// Whether the start of init was reported; if it was not, nothing else is.
    reported: bool,
    execs: BTreeMap<ProcessId, Exec>,
}

impl Lifecycle {
    /// A container whose first process has not started yet.
    pub fn new(init: Generation) -> Self {
        Self { phase: Phase::Starting, init, reported: false, execs: BTreeMap::new() }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the container's start was published. Until then nobody sees it.
    pub fn is_reported(&self) -> bool {
        self.reported
    }

    /// Whether its start was published. A process without a caller is killed without an event.
    pub fn is_process_reported(&self, process: &ProcessId) -> bool {
        match self.execs.get(process) {
            Some(exec) => exec.started,
            None => process.is_init() && self.reported,
        }
    }

    /// The runtime has started the first process.
    pub fn started(&mut self) -> EventKind {
        debug_assert_eq!(self.phase, Phase::Starting);
        self.phase = Phase::Running;
        self.reported = true;
        EventKind::ContainerStarted
    }

    /// The first process was found alive after a restart, and its start was reported before.
    pub fn reattached(&mut self, paused: bool) {
        debug_assert_eq!(self.phase, Phase::Starting);
        self.phase = if paused { Phase::Paused } else { Phase::Running };
        self.reported = true;
    }

    /// Reserves the id of a further process.
    pub fn admit_exec(
        &mut self,
        process: &ProcessId,
        generation: Generation,
    ) -> Result<(), Refusal> {
        if process.is_init() || self.execs.contains_key(process) {
            return Err(Refusal::ProcessTaken(process.clone()));
        }
        self.require_running()?;
        self.execs.insert(process.clone(), Exec { generation, started: false });
        Ok(())
    }

    /// A further process was found after a restart.
    pub fn exec_reattached(&mut self, process: ProcessId, generation: Generation) {
        self.execs.insert(process, Exec { generation, started: true });
    }

    /// The event of a start; none if the container is over.
    pub fn exec_started(&mut self, process: &ProcessId) -> Option<EventKind> {
        let exec = self.execs.get_mut(process).filter(|exec| !exec.started)?;
        exec.started = true;
        Some(EventKind::ProcessStarted { process: process.clone(), generation: exec.generation })
    }

    /// The process did not come to be; its id is free.
    pub fn exec_failed(&mut self, process: &ProcessId) {
        if self.execs.get(process).is_some_and(|exec| !exec.started) {
            self.execs.remove(process);
        }
    }

    /// The process has ended; its id is free. No event for one that was never reported as started.
    pub fn exec_exited(&mut self, process: &ProcessId, exit: Exit) -> Option<EventKind> {
        let exec = self.execs.remove(process)?;
        exec.started.then(|| EventKind::Exited {
            process: process.clone(),
            generation: exec.generation,
            exit,
        })
    }

    /// The first process has ended. Its event comes from [`Self::removed`].
    pub fn init_exited(&mut self, exit: Exit) {
        if !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = Phase::Stopped(exit);
        }
    }

    /// Whether everything that must be reported before init's exit was.
    pub fn may_be_removed(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_)) && self.execs.is_empty()
    }

    /// The container is gone; the last event of its life, if it had any.
    pub fn removed(&self) -> Option<EventKind> {
        match self.phase {
            Phase::Stopped(exit) if self.reported && self.execs.is_empty() => {
                Some(EventKind::Exited { process: ProcessId::init(), generation: self.init, exit })
            }
            _ => None,
        }
    }

    /// # Errors
    /// Unless the first process lives and is not frozen.
    pub fn require_running(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Running => Ok(()),
            other => Err(Refusal::Phase(other)),
        }
    }

    /// # Errors
    /// Unless the container is frozen.
    pub fn require_paused(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Paused => Ok(()),
            other => Err(Refusal::Phase(other)),
        }
    }

    /// Whether the container has a living first process that was reported.
    pub fn require_alive(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Running | Phase::Paused => Ok(()),
            other => Err(Refusal::Phase(other)),
        }
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

    /// The kernel killed a process for want of memory. No event before the start was reported; the
    /// caller asks again then.
    pub fn out_of_memory(&self) -> Option<EventKind> {
        (self.phase != Phase::Starting).then_some(EventKind::OutOfMemory)
    }
}
