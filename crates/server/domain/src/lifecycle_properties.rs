//! Whatever happens in whatever order, a container's events keep their promises.

use proptest::prelude::*;

use crate::{
    EventKind, Exit, ExitStatus, Generation, Lifecycle, Phase, ProcessId, ProcessPhase, Retention,
    Timestamp,
};

fn ended(status: ExitStatus) -> Exit {
    Exit { status, at: Timestamp(7) }
}

/// What the outside can do to a container; a process is one of a few, so that ids meet.
#[derive(Debug, Clone)]
enum Step {
    Started,
    Admit(u8),
    ExecStarted(u8),
    ExecFailed(u8),
    ExecExited(u8, u8),
    InitExited(u8),
    Paused,
    Resumed,
    OutOfMemory,
    Removed,
    /// The server dies, and the next one knows what was journalled, and what the shims know.
    Restarted,
}

fn step() -> impl Strategy<Value = Step> {
    let exec = 0..4u8;
    prop_oneof![
        Just(Step::Started),
        exec.clone().prop_map(Step::Admit),
        exec.clone().prop_map(Step::ExecStarted),
        exec.clone().prop_map(Step::ExecFailed),
        (exec, any::<u8>()).prop_map(|(process, code)| Step::ExecExited(process, code)),
        any::<u8>().prop_map(Step::InitExited),
        Just(Step::Paused),
        Just(Step::Resumed),
        Just(Step::OutOfMemory),
        Just(Step::Removed),
        Just(Step::Restarted),
    ]
}

fn exec_id(number: u8) -> ProcessId {
    ProcessId::parse(&format!("exec{number}")).expect("a valid id")
}

/// The events of a run. As the actor does, `Started` comes once and first of what needs it, and
/// nothing comes after the removal.
fn run(steps: &[Step]) -> Vec<EventKind> {
    let mut container = Lifecycle::new(Generation(1), Retention::UntilExit);
    let mut next_life = 2;
    let mut events = Vec::new();
    let mut started = false;
    let mut init_status = None;
    for step in steps {
        match step {
            Step::Started if !started => {
                started = true;
                events.push(container.started(1));
            }
            _ if !started => {}
            Step::Started => {}
            Step::Admit(n) => {
                if container.admit_exec(&exec_id(*n), Generation(next_life)).is_ok() {
                    next_life += 1;
                }
            }
            Step::ExecStarted(n) => events.extend(container.exec_started(&exec_id(*n), 2)),
            Step::ExecFailed(n) => container.exec_failed(&exec_id(*n)),
            Step::ExecExited(n, code) => {
                events.extend(container.exec_exited(&exec_id(*n), ended(ExitStatus::Code(*code))));
            }
            Step::InitExited(code) => {
                let status = *init_status.get_or_insert(ended(ExitStatus::Code(*code)));
                container.init_exited(status);
            }
            Step::Paused => events.extend(container.paused()),
            Step::Resumed => events.extend(container.resumed()),
            Step::OutOfMemory => events.extend(container.out_of_memory()),
            Step::Restarted => container = after_restart(&events, init_status),
            Step::Removed => {
                if let Some(last) = container.removed() {
                    events.push(last);
                    break;
                }
            }
        }
    }
    events
}

/// The container that a restarted server reattaches to.
fn after_restart(journal: &[EventKind], init_status: Option<Exit>) -> Lifecycle {
    let mut paused = false;
    let mut living = std::collections::BTreeMap::new();
    for event in journal {
        match event {
            EventKind::Paused => paused = true,
            EventKind::Resumed => paused = false,
            EventKind::ProcessStarted { process, generation, .. } => {
                living.insert(process.clone(), *generation);
            }
            EventKind::Exited { process, .. } => {
                living.remove(process);
            }
            _ => {}
        }
    }
    let mut container = Lifecycle::new(Generation(1), Retention::UntilExit);
    container.reattached(1, if paused { Phase::Paused } else { Phase::Running });
    for (process, generation) in living {
        container.exec_reattached(process, generation, 2, ProcessPhase::Running);
    }
    if let Some(status) = init_status {
        container.init_exited(status);
    }
    container
}

proptest! {
    #[test]
    fn starts_come_first_and_init_exits_last(steps in prop::collection::vec(step(), 0..60)) {
        let events = run(&steps);
        for (position, event) in events.iter().enumerate() {
            let is_start = matches!(event, EventKind::ContainerStarted { .. });
            prop_assert_eq!(is_start, position == 0);
            if let EventKind::Exited { process, .. } = event && process.is_init() {
                prop_assert_eq!(position, events.len() - 1);
            }
        }
    }

    #[test]
    fn every_started_exec_exits_at_most_once_and_only_after_its_start(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut living = std::collections::BTreeMap::new();
        for event in run(&steps) {
            match event {
                EventKind::ProcessStarted { process, generation, .. } => {
                    prop_assert!(living.insert(process, generation).is_none());
                }
                EventKind::Exited { process, generation, .. } if !process.is_init() => {
                    prop_assert_eq!(living.remove(&process), Some(generation));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn no_exit_is_missing_when_the_container_is_gone(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let events = run(&steps);
        let is_init = |event: &EventKind| {
            matches!(event, EventKind::Exited { process, .. } if process.is_init())
        };
        if events.last().is_some_and(is_init) {
            let starts = |e: &&EventKind| matches!(e, EventKind::ProcessStarted { .. });
            let exits = |e: &&EventKind| matches!(e, EventKind::Exited { .. });
            let (starts, exits) = (events.iter().filter(starts), events.iter().filter(exits));
            prop_assert_eq!(starts.count() + 1, exits.count());
        }
    }

    #[test]
    fn pause_and_resume_alternate(steps in prop::collection::vec(step(), 0..60)) {
        let mut paused = false;
        for event in run(&steps) {
            match event {
                EventKind::Paused => prop_assert!(!std::mem::replace(&mut paused, true)),
                EventKind::Resumed => prop_assert!(std::mem::replace(&mut paused, false)),
                _ => {}
            }
        }
    }
}

#[test]
fn the_first_exit_status_of_init_is_the_one_reported() {
    let mut container = Lifecycle::new(Generation(1), Retention::UntilExit);
    container.started(1);
    container.init_exited(ended(ExitStatus::Code(3)));
    container.init_exited(ended(ExitStatus::Unknown));
    assert_eq!(
        container.removed(),
        Some(EventKind::Exited {
            process: ProcessId::init(),
            generation: Generation(1),
            pid: 1,
            exit: ended(ExitStatus::Code(3))
        })
    );
}

#[test]
fn a_process_is_reported_from_its_start_to_its_exit() {
    let (init, exec) = (ProcessId::init(), ProcessId::parse("e").unwrap());
    let mut container = Lifecycle::new(Generation(1), Retention::UntilExit);
    assert!(container.process_phase(&init).is_none());
    container.started(1);
    assert!(container.process_phase(&init).is_some());
    container.admit_exec(&exec, Generation(2)).unwrap();
    assert!(container.process_phase(&exec).is_none());
    container.exec_started(&exec, 2);
    assert!(container.process_phase(&exec).is_some());
    container.exec_exited(&exec, ended(ExitStatus::Code(0)));
    assert!(container.process_phase(&exec).is_none());
}
