//! Whatever happens in whatever order, a container's events keep their promises.

use proptest::prelude::*;

use super::{EventKind, ExitStatus, Life, Lifecycle, ProcessId};

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
    ]
}

fn exec_id(number: u8) -> ProcessId {
    ProcessId::parse(&format!("exec{number}")).expect("a valid id")
}

/// The events of a run. As the actor does, `Started` comes once and first of what needs it, and
/// nothing comes after the removal.
fn run(steps: &[Step]) -> Vec<EventKind> {
    let mut container = Lifecycle::new(Life(1));
    let mut next_life = 2;
    let mut events = Vec::new();
    let mut started = false;
    for step in steps {
        match step {
            Step::Started if !started => {
                started = true;
                events.push(container.started());
            }
            _ if !started => {}
            Step::Started => {}
            Step::Admit(n) => {
                if container.admit_exec(&exec_id(*n), Life(next_life)).is_ok() {
                    next_life += 1;
                }
            }
            Step::ExecStarted(n) => events.extend(container.exec_started(&exec_id(*n))),
            Step::ExecFailed(n) => container.exec_failed(&exec_id(*n)),
            Step::ExecExited(n, code) => {
                events.extend(container.exec_exited(&exec_id(*n), ExitStatus::Code(*code)));
            }
            Step::InitExited(code) => container.init_exited(ExitStatus::Code(*code)),
            Step::Paused => events.extend(container.paused()),
            Step::Resumed => events.extend(container.resumed()),
            Step::OutOfMemory => events.extend(container.out_of_memory()),
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

proptest! {
    #[test]
    fn starts_come_first_and_init_exits_last(steps in prop::collection::vec(step(), 0..60)) {
        let events = run(&steps);
        for (position, event) in events.iter().enumerate() {
            let is_start = matches!(event, EventKind::ContainerStarted);
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
                EventKind::ProcessStarted { process, life } => {
                    prop_assert!(living.insert(process, life).is_none());
                }
                EventKind::Exited { process, life, .. } if !process.is_init() => {
                    prop_assert_eq!(living.remove(&process), Some(life));
                }
                _ => {}
            }
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
    let mut container = Lifecycle::new(Life(1));
    container.started();
    container.init_exited(ExitStatus::Code(3));
    container.init_exited(ExitStatus::Unknown);
    assert_eq!(
        container.removed(),
        Some(EventKind::Exited {
            process: ProcessId::init(),
            life: Life(1),
            status: ExitStatus::Code(3)
        })
    );
}
