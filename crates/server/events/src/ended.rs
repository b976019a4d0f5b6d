//! How a process has ended, as the log remembers, also of a container that is gone.

use gantry_domain::{ContainerKey, Event, EventKind, Exit, ProcessId};

use crate::EventLog;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How and when.
    pub exit: Exit,
    /// The kernel has killed a process of the container for its limit of memory, while this one lived. False, too, if
    /// the events of that time are not kept any more.
    pub out_of_memory: bool,
}

impl EventLog {
    /// The end of the latest process with this id, if it has ended and the log has its exit.
    #[must_use]
    pub fn ended(&self, container: &ContainerKey, process: &ProcessId) -> Option<Ended> {
        let ring = self.shared.channel(&container.namespace).ring();
        let mut newest_first = ring.all().filter(|event| event.container == *container);
        let exit = newest_first.find(|event| is_turn(&event.kind, process))?;
        let EventKind::Exited { exit: how, .. } = exit.kind else { return None };
        let out_of_memory = newest_first
            .take_while(|event| event.generation == exit.generation && !begins(event, process))
            .any(|event| event.kind == EventKind::OutOfMemory);
        Some(Ended { exit: how, out_of_memory })
    }
}

/// Whether the process has ended, or another of its id may be there since.
fn is_turn(kind: &EventKind, process: &ProcessId) -> bool {
    match kind {
        EventKind::Created(_) | EventKind::ContainerStarted { .. } => true,
        EventKind::Exited { process: of, .. }
        | EventKind::ProcessAdded { process: of }
        | EventKind::ProcessStarted { process: of, .. } => of == process,
        _ => false,
    }
}

/// Whether the process was not there before this event.
fn begins(event: &Event, process: &ProcessId) -> bool {
    !matches!(event.kind, EventKind::Exited { .. }) && is_turn(&event.kind, process)
}
