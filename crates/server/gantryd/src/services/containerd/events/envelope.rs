//! Events as containerd's clients know them.

use std::path::Path;

use gantry_api::containerd::{
    event_types::{
        TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIo,
        TaskOom, TaskPaused, TaskResumed, TaskStart,
    },
    to_any, topic,
    types::{Envelope, Mount},
};
use gantry_domain::{Created, Event, EventKind, Stdio};
use gantry_events::{Publication, Published};
use prost_types::{Any, Timestamp};
use tonic::Status;

use crate::services::{
    containerd::status::invalid,
    exit,
    time::{YEAR_9999, YEAR_ONE, timestamp},
};

/// An event of a task with its topic, its namespace and its time.
pub(super) fn of_container(event: &Event) -> Envelope {
    let (topic, message) = message(event);
    Envelope {
        timestamp: Some(timestamp(event.at)),
        namespace: event.container.namespace.name().to_owned(),
        topic: topic.to_owned(),
        event: Some(message),
    }
}

/// A published event with its topic, its namespace and its time.
pub(super) fn of_published(published: &Published) -> Envelope {
    let Publication { namespace, topic, type_url, value, happened } = &published.publication;
    let happened =
        happened.map(|(seconds, nanos)| Timestamp { seconds, nanos: nanos.cast_signed() });
    let is_absent = type_url.is_empty() && value.is_empty();
    Envelope {
        timestamp: Some(happened.unwrap_or_else(|| timestamp(published.at))),
        namespace: namespace.name().to_owned(),
        topic: topic.clone(),
        event: (!is_absent).then(|| Any { type_url: type_url.clone(), value: value.clone() }),
    }
}

/// The time of an envelope that is forwarded: seconds since the epoch, and nanoseconds.
pub(super) fn happened(timestamp: Option<&Timestamp>) -> Result<(i64, u32), Status> {
    let field = "envelope.timestamp";
    let given = timestamp.filter(|at| (at.seconds, at.nanos) != (YEAR_ONE, 0));
    let given = given.ok_or_else(|| invalid(field, "timestamp must be set on forwarded event"))?;
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match nanos {
        Some(nanos) if (YEAR_ONE..=YEAR_9999).contains(&given.seconds) => {
            Ok((given.seconds, nanos))
        }
        _ => Err(invalid(field, "timestamp must be of the years 1 to 9999, nanos 0 to 999999999")),
    }
}

fn message(event: &Event) -> (&'static str, Any) {
    let container_id = event.container.id.as_str().to_owned();
    match &event.kind {
        EventKind::Created(created) => (topic::TASK_CREATE, to_any(&create(container_id, created))),
        EventKind::ContainerStarted { pid } => {
            (topic::TASK_START, to_any(&TaskStart { container_id, pid: *pid }))
        }
        EventKind::ProcessAdded { process } => {
            let exec_id = process.as_str().to_owned();
            (topic::TASK_EXEC_ADDED, to_any(&TaskExecAdded { container_id, exec_id }))
        }
        EventKind::ProcessStarted { process, pid, .. } => {
            let exec_id = process.as_str().to_owned();
            let started = TaskExecStarted { container_id, exec_id, pid: *pid };
            (topic::TASK_EXEC_STARTED, to_any(&started))
        }
        EventKind::Exited { process, pid, exit, .. } => {
            let is_init = process.is_init();
            let id = if is_init { container_id.clone() } else { process.as_str().to_owned() };
            let exited = TaskExit {
                container_id,
                id,
                pid: *pid,
                exit_status: exit::status(exit.status),
                exited_at: Some(timestamp(exit.at)),
            };
            (topic::TASK_EXIT, to_any(&exited))
        }
        EventKind::Paused => (topic::TASK_PAUSED, to_any(&TaskPaused { container_id })),
        EventKind::Resumed => (topic::TASK_RESUMED, to_any(&TaskResumed { container_id })),
        EventKind::OutOfMemory => (topic::TASK_OOM, to_any(&TaskOom { container_id })),
        EventKind::Checkpointed { path } => {
            let checkpointed = TaskCheckpointed { container_id, checkpoint: text(path) };
            (topic::TASK_CHECKPOINTED, to_any(&checkpointed))
        }
        EventKind::Deleted { pid, exit } => {
            let deleted = TaskDelete {
                container_id,
                pid: *pid,
                exit_status: exit::status(exit.status),
                exited_at: Some(timestamp(exit.at)),
                // As containerd.
                id: String::new(),
            };
            (topic::TASK_DELETE, to_any(&deleted))
        }
    }
}

fn create(container_id: String, created: &Created) -> TaskCreate {
    let Created { pid, bundle, rootfs, stdio, terminal, checkpoint } = created;
    let Stdio { stdin, stdout, stderr } = stdio;
    let path = |path: &Option<_>| path.as_deref().map(text).unwrap_or_default();
    let mount = |mount: &gantry_domain::Mount| Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    };
    TaskCreate {
        container_id,
        bundle: text(bundle),
        rootfs: rootfs.iter().map(mount).collect(),
        io: Some(TaskIo {
            stdin: path(stdin),
            stdout: path(stdout),
            stderr: path(stderr),
            terminal: *terminal,
        }),
        checkpoint: path(checkpoint),
        pid: *pid,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use gantry_api::containerd::from_any;
    use gantry_domain::{
        ContainerId, ContainerKey, Exit, ExitStatus, Generation, Namespace, ProcessId,
    };
    use prost::Name;

    use super::*;

    const AT: gantry_domain::Timestamp = gantry_domain::Timestamp(2_000_000_003);
    const EXIT: Exit =
        Exit { status: ExitStatus::Signal(9), at: gantry_domain::Timestamp(1_000_000_002) };
    const EXITED_AT: Option<Timestamp> = Some(Timestamp { seconds: 1, nanos: 2 });

    fn of(kind: EventKind) -> Envelope {
        let namespace = Namespace::named("moby").unwrap();
        let container = ContainerKey { namespace, id: ContainerId::parse("c").unwrap() };
        of_container(&Event {
            at: AT,
            container,
            generation: Generation(1),
            labels: gantry_domain::Labels::default(),
            kind,
        })
    }

    fn check<M: Name + Default + PartialEq + std::fmt::Debug>(
        kind: EventKind,
        topic: &str,
        expected: &M,
    ) {
        let envelope = of(kind);
        assert_eq!(envelope.timestamp, Some(Timestamp { seconds: 2, nanos: 3 }));
        assert_eq!((&*envelope.namespace, &*envelope.topic), ("moby", topic));
        let event = envelope.event.unwrap();
        // Without a slash, as containerd has it.
        assert_eq!(event.type_url, M::full_name());
        assert_eq!(from_any::<M>(&event).unwrap().as_ref(), Some(expected));
    }

    #[test]
    fn a_task_has_events_from_create_to_delete() {
        let c = || "c".to_owned();
        let created = Created {
            pid: 7,
            bundle: "/b".into(),
            rootfs: vec![gantry_domain::Mount {
                kind: "bind".to_owned(),
                source: "/s".to_owned(),
                target: "t".to_owned(),
                options: vec!["ro".to_owned()],
            }],
            stdio: Stdio { stdin: None, stdout: Some("/o".into()), stderr: None },
            terminal: true,
            checkpoint: Some("/image".into()),
        };
        let create = TaskCreate {
            container_id: c(),
            bundle: "/b".to_owned(),
            rootfs: vec![Mount {
                r#type: "bind".to_owned(),
                source: "/s".to_owned(),
                target: "t".to_owned(),
                options: vec!["ro".to_owned()],
            }],
            io: Some(TaskIo { stdout: "/o".to_owned(), terminal: true, ..TaskIo::default() }),
            checkpoint: "/image".to_owned(),
            pid: 7,
        };
        check(EventKind::Created(Box::new(created)), "/tasks/create", &create);
        let start = TaskStart { container_id: c(), pid: 7 };
        check(EventKind::ContainerStarted { pid: 7 }, "/tasks/start", &start);
        check(EventKind::Paused, "/tasks/paused", &TaskPaused { container_id: c() });
        check(EventKind::Resumed, "/tasks/resumed", &TaskResumed { container_id: c() });
        check(EventKind::OutOfMemory, "/tasks/oom", &TaskOom { container_id: c() });
        let checkpointed = TaskCheckpointed { container_id: c(), checkpoint: "/i".to_owned() };
        check(EventKind::Checkpointed { path: "/i".into() }, "/tasks/checkpointed", &checkpointed);
        let (container_id, id) = (c(), String::new());
        let delete =
            TaskDelete { container_id, pid: 7, exit_status: 137, exited_at: EXITED_AT, id };
        check(EventKind::Deleted { pid: 7, exit: EXIT }, "/tasks/delete", &delete);
    }

    #[test]
    fn an_exit_names_its_process_or_the_container() {
        let exec = ProcessId::parse("e").unwrap();
        let exec_id = || "e".to_owned();
        let container_id = || "c".to_owned();
        let added = TaskExecAdded { container_id: container_id(), exec_id: exec_id() };
        check(EventKind::ProcessAdded { process: exec.clone() }, "/tasks/exec-added", &added);
        let started = TaskExecStarted { container_id: container_id(), exec_id: exec_id(), pid: 8 };
        let generation = Generation(3);
        let start = EventKind::ProcessStarted { process: exec.clone(), generation, pid: 8 };
        check(start, "/tasks/exec-started", &started);
        for (process, id) in [(exec, exec_id()), (ProcessId::init(), container_id())] {
            let exited = TaskExit {
                container_id: container_id(),
                id,
                pid: 8,
                exit_status: 137,
                exited_at: EXITED_AT,
            };
            check(
                EventKind::Exited { process, generation, pid: 8, exit: EXIT },
                "/tasks/exit",
                &exited,
            );
        }
    }

    #[test]
    fn what_is_forwarded_keeps_its_time_and_its_bytes() {
        let namespace = Namespace::named("moby").unwrap();
        let publication = Publication {
            namespace,
            topic: "/a/b".to_owned(),
            type_url: "x/y".to_owned(),
            value: vec![0xff],
            happened: Some((-5, 999_999_999)),
        };
        let published = Published { at: AT, publication };
        let envelope = of_published(&published);
        assert_eq!(envelope.timestamp, Some(Timestamp { seconds: -5, nanos: 999_999_999 }));
        assert_eq!((&*envelope.namespace, &*envelope.topic), ("moby", "/a/b"));
        let event = Any { type_url: "x/y".to_owned(), value: vec![0xff] };
        assert_eq!(envelope.event, Some(event));
        let mut publication = published.publication;
        (publication.happened, publication.type_url, publication.value) =
            (None, String::new(), vec![]);
        let envelope = of_published(&Published { at: AT, publication });
        assert_eq!(envelope.timestamp, Some(Timestamp { seconds: 2, nanos: 3 }));
        assert_eq!(envelope.event, None);
    }

    #[test]
    fn a_time_is_given_and_one_that_there_is() {
        let at = |seconds, nanos| happened(Some(&Timestamp { seconds, nanos }));
        for (seconds, nanos) in [(0, 0), (YEAR_ONE, 1), (YEAR_9999, 999_999_999), (-1, 5)] {
            assert_eq!(at(seconds, nanos).unwrap(), (seconds, nanos.cast_unsigned()));
        }
        let missing = "timestamp must be set on forwarded event: invalid argument";
        assert_eq!(at(YEAR_ONE, 0).unwrap_err().message(), missing);
        assert_eq!(happened(None).unwrap_err().message(), missing);
        for (seconds, nanos) in [
            (YEAR_ONE - 1, 0),
            (YEAR_9999 + 1, 0),
            (0, -1),
            (0, 1_000_000_000),
            (i64::MIN, i32::MIN),
        ] {
            let error = at(seconds, nanos).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{seconds} {nanos}");
        }
    }
}
