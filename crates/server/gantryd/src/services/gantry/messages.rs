//! Events and containers as messages.

use gantry_api::v1::{self, EventType, State};
use gantry_domain::{
    Event, EventKind, Exit, ExitStatus, Namespace, Phase, ProcessId, ProcessPhase,
};
use gantry_events::Ended;
use gantry_supervisor::{ContainerView, ProcessView};

use crate::services::{exit::status, time::timestamp};

pub(super) fn event(event: &Event) -> v1::Event {
    let (r#type, process, pid, exit) = facts(&event.kind);
    v1::Event {
        time: Some(timestamp(event.at)),
        r#type: r#type.into(),
        namespace: namespace(&event.container.namespace),
        container_id: event.container.id.to_string(),
        process_id: process.map(|process| process.to_string()).unwrap_or_default(),
        pid,
        exit: exit.map(self::exit),
    }
}

/// The type of an event, the process that it is about, the pid and the end.
fn facts(kind: &EventKind) -> (EventType, Option<ProcessId>, u32, Option<Exit>) {
    let init = || Some(ProcessId::init());
    match kind {
        EventKind::Created(created) => (EventType::Created, init(), created.pid, None),
        EventKind::ContainerStarted { pid } => (EventType::Started, init(), *pid, None),
        EventKind::ProcessAdded { process } => (EventType::Created, Some(process.clone()), 0, None),
        EventKind::ProcessStarted { process, pid, .. } => {
            (EventType::Started, Some(process.clone()), *pid, None)
        }
        EventKind::Exited { process, pid, exit, .. } => {
            (EventType::Exited, Some(process.clone()), *pid, Some(*exit))
        }
        EventKind::Paused => (EventType::Paused, None, 0, None),
        EventKind::Resumed => (EventType::Resumed, None, 0, None),
        EventKind::OutOfMemory => (EventType::OutOfMemory, None, 0, None),
        EventKind::Checkpointed { .. } => (EventType::Checkpointed, None, 0, None),
        EventKind::Deleted { pid, exit } => (EventType::Deleted, None, *pid, Some(*exit)),
    }
}

/// The type of an event.
pub(super) fn type_of(event: &Event) -> EventType {
    facts(&event.kind).0
}

pub(super) fn exit(exit: Exit) -> v1::Exit {
    let known = exit.status != ExitStatus::Unknown;
    v1::Exit { status: known.then(|| status(exit.status)), exited_at: Some(timestamp(exit.at)) }
}

pub(super) fn ended(ended: &Ended) -> v1::WaitResponse {
    let Ended { exit, out_of_memory } = *ended;
    v1::WaitResponse { exit: Some(self::exit(exit)), out_of_memory }
}

pub(super) fn container(namespace: &Namespace, view: &ContainerView) -> v1::Container {
    let state = match view.phase {
        Phase::Starting | Phase::Created => State::Created,
        Phase::Running => State::Running,
        Phase::Paused => State::Paused,
        Phase::Stopped(_) => State::Stopped,
    };
    v1::Container {
        namespace: self::namespace(namespace),
        id: view.id.to_string(),
        state: state.into(),
        processes: view.processes.iter().map(process).collect(),
        bundle: view.bundle.display().to_string(),
        runtime: view.runtime.clone(),
        stale: view.is_stale,
    }
}

fn process(process: &ProcessView) -> v1::Process {
    let (state, exit) = match process.phase {
        ProcessPhase::Created | ProcessPhase::Starting => (State::Created, None),
        ProcessPhase::Running => (State::Running, None),
        ProcessPhase::Stopped(exit) => (State::Stopped, Some(self::exit(exit))),
    };
    let id = process.spec.id.to_string();
    v1::Process { id, state: state.into(), pid: process.pid, exit }
}

/// That of `types.API` has no name.
pub(super) fn namespace(namespace: &Namespace) -> String {
    if namespace.is_types_api() { String::new() } else { namespace.name().to_owned() }
}
