//! Whatever happens in whatever order, the events of a container that is kept until it is deleted keep their
//! promises, and its exits can be read until then.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    Created, EventKind, Exit, ExitStatus, Generation, Lifecycle, Phase, ProcessId, ProcessPhase,
    Retention, Timestamp,
};

#[derive(Debug, Clone)]
enum Step {
    Start,
    Add(u8),
    StartExec(u8),
    /// Whether the runtime has started it.
    ExecLaunched(u8, bool),
    ExecExited(u8, u8),
    DeleteExec(u8),
    InitExited(u8),
    GiveUpExecs,
    TellExit,
    Paused,
    Resumed,
    OutOfMemory,
    Delete,
    /// The server dies, and the next one knows what was published.
    Restarted,
}

fn step() -> impl Strategy<Value = Step> {
    let exec = 0..3u8;
    prop_oneof![
        3 => Just(Step::Start),
        3 => exec.clone().prop_map(Step::Add),
        3 => exec.clone().prop_map(Step::StartExec),
        3 => (exec.clone(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::ExecLaunched(n, ok)),
        3 => (exec.clone(), any::<u8>()).prop_map(|(n, code)| Step::ExecExited(n, code)),
        1 => exec.prop_map(Step::DeleteExec),
        1 => any::<u8>().prop_map(Step::InitExited),
        1 => Just(Step::GiveUpExecs),
        2 => Just(Step::TellExit),
        1 => Just(Step::Paused),
        1 => Just(Step::Resumed),
        1 => Just(Step::OutOfMemory),
        1 => Just(Step::Delete),
        1 => Just(Step::Restarted),
    ]
}

fn exec_id(number: u8) -> ProcessId {
    ProcessId::parse(&format!("exec{number}")).expect("a valid id")
}

fn ended(code: u8) -> Exit {
    Exit { status: ExitStatus::Code(code), at: Timestamp(u64::from(code) + 1) }
}

/// A container, the events of it that were published, and whether its init's exit had to wait for all others.
struct Run {
    container: Lifecycle,
    events: Vec<EventKind>,
    next: u64,
    patient: bool,
}

impl Run {
    fn new() -> Self {
        let mut container = Lifecycle::new(Generation(1), Retention::UntilDeleted);
        let created = container.created(Created { pid: 7, ..Created::default() });
        Self { container, events: vec![created], next: 2, patient: true }
    }

    /// As the container's task does it; whether it goes on.
    fn step(&mut self, step: &Step) -> bool {
        let Self { container, events, .. } = self;
        match step {
            Step::Start if container.require_created().is_ok() => events.push(container.started(7)),
            Step::Start => {}
            Step::Add(n) => {
                if let Ok(added) = container.add_exec(&exec_id(*n), Generation(self.next)) {
                    events.push(added);
                    self.next += 1;
                }
            }
            Step::StartExec(n) => drop(container.admit_start(&exec_id(*n))),
            Step::ExecLaunched(n, true) => events.extend(container.exec_started(&exec_id(*n), 9)),
            Step::ExecLaunched(n, false) => container.exec_failed(&exec_id(*n)),
            // Only what was launched can end.
            Step::ExecExited(n, code) => {
                if container.process_phase(&exec_id(*n)) == Some(ProcessPhase::Running) {
                    events.extend(container.exec_exited(&exec_id(*n), ended(*code)));
                }
            }
            Step::DeleteExec(n) => drop(container.exec_deleted(&exec_id(*n))),
            Step::InitExited(code) => container.init_exited(ended(*code)),
            Step::GiveUpExecs => {
                container.give_up_execs();
                self.patient = false;
            }
            Step::TellExit => events.extend(container.publish_exit()),
            Step::Paused => events.extend(container.paused()),
            Step::Resumed => events.extend(container.resumed()),
            Step::OutOfMemory => events.extend(container.out_of_memory()),
            Step::Delete => {
                if let Some(deleted) = container.removed() {
                    events.push(deleted);
                    return false;
                }
            }
            Step::Restarted => self.restart(),
        }
        true
    }

    fn restart(&mut self) {
        let (before, published) = (&self.container, self.container.is_exit_published());
        let phase = match before.phase() {
            // An exit that was not published is found again.
            Phase::Stopped(_) if !published => {
                let started =
                    |event: &EventKind| matches!(event, EventKind::ContainerStarted { .. });
                if self.events.iter().any(started) { Phase::Running } else { Phase::Created }
            }
            other => other,
        };
        let mut after = Lifecycle::new(Generation(1), Retention::UntilDeleted);
        after.reattached(7, phase);
        for number in 0..3 {
            let id = exec_id(number);
            if let Some(phase) = before.process_phase(&id) {
                let phase = match phase {
                    ProcessPhase::Starting => ProcessPhase::Created,
                    other => other,
                };
                after.exec_reattached(id, Generation(100), 9, phase);
            }
        }
        if let (Phase::Stopped(exit), false) = (before.phase(), published) {
            after.init_exited(exit);
        }
        self.container = after;
    }
}

fn exit_of(event: &EventKind) -> Option<(&ProcessId, Exit)> {
    match event {
        EventKind::Exited { process, exit, .. } => Some((process, *exit)),
        _ => None,
    }
}

proptest! {
    #[test]
    fn events_are_in_order_and_exits_stay(steps in prop::collection::vec(step(), 0..80)) {
        let mut run = Run::new();
        for step in &steps {
            if !run.step(step) {
                break;
            }
            // An exit that was published can be read until the process is deleted.
            let init = run.events.iter().filter_map(exit_of).find(|(process, _)| process.is_init());
            if let Some((process, exit)) = init {
                let phase = run.container.process_phase(process);
                prop_assert_eq!(phase, Some(ProcessPhase::Stopped(exit)));
            }
        }
        let mut living = BTreeMap::new();
        let mut init_exit = None;
        for (position, event) in run.events.iter().enumerate() {
            prop_assert_eq!(matches!(event, EventKind::Created(_)), position == 0);
            match event {
                EventKind::ContainerStarted { .. } => prop_assert!(init_exit.is_none()),
                EventKind::ProcessStarted { process, .. } => {
                    prop_assert!(living.insert(process.clone(), ()).is_none());
                }
                EventKind::Exited { process, exit, .. } if process.is_init() => {
                    prop_assert!(init_exit.replace(*exit).is_none(), "published twice");
                    prop_assert!(living.is_empty() || !run.patient, "execs come first");
                }
                EventKind::Exited { process, .. } => {
                    prop_assert!(living.remove(process).is_some());
                }
                EventKind::OutOfMemory => prop_assert!(init_exit.is_none()),
                // All events of the end have the same exit.
                EventKind::Deleted { exit, .. } => {
                    prop_assert_eq!(position, run.events.len() - 1);
                    prop_assert_eq!(Some(*exit), init_exit);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_exec_that_could_not_be_started_can_be_started_again_or_deleted() {
    let exec = exec_id(0);
    let mut container = Run::new().container;
    container.add_exec(&exec, Generation(2)).unwrap();
    container.admit_start(&exec).unwrap();
    assert!(container.admit_start(&exec).is_err(), "it is being started");
    assert!(container.exec_deleted(&exec).is_err());
    container.exec_failed(&exec);
    assert_eq!(container.process_phase(&exec), Some(ProcessPhase::Created));
    container.admit_start(&exec).unwrap();
    container.exec_started(&exec, 9).unwrap();
    container.exec_exited(&exec, ended(3)).unwrap();
    assert_eq!(container.process_phase(&exec), Some(ProcessPhase::Stopped(ended(3))));
    assert!(container.add_exec(&exec, Generation(3)).is_err(), "its id is taken");
    container.exec_deleted(&exec).unwrap();
    assert!(container.add_exec(&exec, Generation(3)).is_ok());
}

#[test]
fn a_created_container_can_end_and_be_deleted_without_a_start() {
    let mut container = Run::new().container;
    assert!(container.require_deletable().is_ok());
    assert_eq!(container.removed(), None, "it lives");
    container.init_exited(ended(9));
    assert_eq!(container.removed(), None, "its exit is published first");
    assert!(container.publish_exit().is_some() && container.publish_exit().is_none());
    assert_eq!(container.removed(), Some(EventKind::Deleted { pid: 7, exit: ended(9) }));
}

#[test]
fn what_runs_is_not_deleted() {
    let mut container = Run::new().container;
    container.started(7);
    assert!(container.require_deletable().is_err());
    container.paused().unwrap();
    assert!(container.require_deletable().is_err());
}
