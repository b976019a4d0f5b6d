//! Tasks and their processes as clients of containerd see them.

use std::path::PathBuf;

use gantry_api::containerd::{
    runc::ProcessDetails,
    task_types::{Process, ProcessInfo, Status},
    tasks::{DeleteResponse, WaitResponse},
    to_any,
};
use gantry_domain::{Exit, Phase, ProcessId, ProcessPhase};
use gantry_supervisor::{ContainerView, DeletedProcess, FirstProcess, Listed, ProcessView};

use crate::services::{exit, time::timestamp};

/// One process of a task; none if there is no such process.
pub(super) fn process(task: &ContainerView, id: &ProcessId) -> Option<Process> {
    let process = task.processes.iter().find(|process| process.spec.id == *id)?;
    let is_first = id.is_init();
    let (status, exit) = if is_first { of_task(task.phase) } else { of_process(process.phase) };
    let path = |path: &Option<PathBuf>| {
        path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    let stdio = &process.spec.stdio;
    Some(Process {
        // As in containerd; a first process's id is the container's, and of an exec the caller knows it.
        container_id: String::new(),
        id: if is_first { task.id.to_string() } else { id.to_string() },
        pid: process.pid,
        status: status.into(),
        stdin: path(&stdio.stdin),
        stdout: path(&stdio.stdout),
        stderr: path(&stdio.stderr),
        terminal: process.spec.terminal,
        exit_status: exit.map(|exit| exit::status(exit.status)).unwrap_or_default(),
        exited_at: exit.map(|exit| timestamp(exit.at)),
    })
}

/// A task, for the list of all. As in containerd, the status is unknown of one whose shim does not say how it is.
pub(super) fn first_process(first: &FirstProcess) -> Option<Process> {
    let mut process = process(&first.container, &ProcessId::init())?;
    if first.has_ended {
        process.set_status(Status::Unknown);
    }
    Some(process)
}

fn of_task(phase: Phase) -> (Status, Option<Exit>) {
    match phase {
        Phase::Starting | Phase::Created => (Status::Created, None),
        Phase::Running => (Status::Running, None),
        Phase::Paused => (Status::Paused, None),
        Phase::Stopped(exit) => (Status::Stopped, Some(exit)),
    }
}

fn of_process(phase: ProcessPhase) -> (Status, Option<Exit>) {
    match phase {
        ProcessPhase::Created | ProcessPhase::Starting => (Status::Created, None),
        ProcessPhase::Running => (Status::Running, None),
        ProcessPhase::Stopped(exit) => (Status::Stopped, Some(exit)),
    }
}

/// All processes in a task's cgroup. Those that were added have their ids beside them.
pub(super) fn processes(listed: &Listed) -> Vec<ProcessInfo> {
    let added = |pid: u32| {
        let is_it = |process: &&ProcessView| {
            let lives = matches!(process.phase, ProcessPhase::Running | ProcessPhase::Starting);
            process.pid == pid && lives && !process.spec.id.is_init()
        };
        let process = listed.view.processes.iter().find(is_it)?;
        Some(to_any(&ProcessDetails { exec_id: process.spec.id.to_string() }))
    };
    listed.pids.iter().map(|pid| ProcessInfo { pid: *pid, info: added(*pid) }).collect()
}

/// The end of a process that was deleted; zeros of one that was never started.
pub(super) fn deleted(exec: String, deleted: DeletedProcess) -> DeleteResponse {
    DeleteResponse {
        id: exec,
        pid: deleted.pid,
        exit_status: deleted.exit.map(|exit| exit::status(exit.status)).unwrap_or_default(),
        exited_at: deleted.exit.map(|exit| timestamp(exit.at)),
    }
}

/// How a process has ended.
pub(super) fn waited(exit: Exit) -> WaitResponse {
    WaitResponse { exit_status: exit::status(exit.status), exited_at: Some(timestamp(exit.at)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gantry_api::containerd::from_any;
    use gantry_domain::{ContainerId, ExitStatus, ProcessSpec, Stdio, Timestamp};

    use super::*;

    const EXIT: Exit = Exit { status: ExitStatus::Signal(9), at: Timestamp(1_000_000_001) };

    fn of(id: &str, pid: u32, phase: ProcessPhase) -> ProcessView {
        let id = ProcessId::parse(id).unwrap();
        let stdio = Stdio { stdout: Some("/out".into()), ..Stdio::default() };
        let spec = ProcessSpec { terminal: true, stdio, ..ProcessSpec::unknown(id) };
        ProcessView { spec: Arc::new(spec), pid, phase, pidfd: None }
    }

    fn task(phase: Phase, processes: Vec<ProcessView>) -> ContainerView {
        ContainerView {
            id: ContainerId::parse("t").unwrap(),
            bundle: PathBuf::new(),
            runtime: String::new(),
            event_labels: gantry_domain::Labels::default(),
            labels: Arc::default(),
            phase,
            processes,
            cgroup: None,
            is_stale: false,
        }
    }

    #[test]
    fn a_first_process_has_the_id_and_the_state_of_its_task() {
        let init = ProcessId::init();
        for (phase, status) in [
            (Phase::Created, Status::Created),
            (Phase::Running, Status::Running),
            (Phase::Paused, Status::Paused),
            (Phase::Stopped(EXIT), Status::Stopped),
        ] {
            let task = task(phase, vec![of("init", 7, ProcessPhase::Running)]);
            let seen = process(&task, &init).unwrap();
            assert_eq!((seen.container_id.as_str(), seen.id.as_str(), seen.pid), ("", "t", 7));
            assert_eq!(seen.status(), status);
            assert_eq!(
                (seen.stdin.as_str(), seen.stdout.as_str(), seen.terminal),
                ("", "/out", true)
            );
            let stopped = status == Status::Stopped;
            assert_eq!(seen.exit_status, if stopped { 137 } else { 0 });
            assert_eq!(seen.exited_at.map(|at| (at.seconds, at.nanos)), stopped.then_some((1, 1)));
        }
    }

    #[test]
    fn an_added_process_has_a_state_of_its_own() {
        let added = of("e", 8, ProcessPhase::Stopped(EXIT));
        let task = task(Phase::Paused, vec![of("init", 7, ProcessPhase::Running), added]);
        let seen = process(&task, &ProcessId::parse("e").unwrap()).unwrap();
        assert_eq!(
            (seen.id.as_str(), seen.status(), seen.exit_status),
            ("e", Status::Stopped, 137)
        );
        assert!(process(&task, &ProcessId::parse("other").unwrap()).is_none());
    }

    #[test]
    fn living_added_processes_are_named_among_all() {
        let view = task(
            Phase::Running,
            vec![
                of("init", 7, ProcessPhase::Running),
                of("e", 8, ProcessPhase::Running),
                of("gone", 9, ProcessPhase::Stopped(EXIT)),
            ],
        );
        // The pid of a process that has ended may be another's by now.
        let named: Vec<_> = processes(&Listed { view, pids: vec![7, 8, 9, 10] })
            .into_iter()
            .map(|info| {
                let details = info.info.map(|info| from_any::<ProcessDetails>(&info).unwrap());
                (info.pid, details.flatten().map(|details| details.exec_id))
            })
            .collect();
        assert_eq!(named, [(7, None), (8, Some("e".to_owned())), (9, None), (10, None)]);
    }

    #[test]
    fn what_was_never_started_has_ended_with_zeros() {
        let never = deleted("e".to_owned(), DeletedProcess { pid: 0, exit: None });
        assert_eq!(never, DeleteResponse { id: "e".to_owned(), ..DeleteResponse::default() });
        let ended = deleted(String::new(), DeletedProcess { pid: 7, exit: Some(EXIT) });
        assert_eq!((ended.pid, ended.exit_status), (7, 137));
    }
}
