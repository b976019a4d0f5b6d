//! The fields that filters of events can name: `namespace`, `topic`, and `event.…`, a field of the message.

use std::{borrow::Cow, collections::BTreeMap};

use gantry_api::containerd::{
    event_types::{
        ContainerCreate, ContainerDelete, ContainerUpdate, ContentDelete, NamespaceCreate,
        NamespaceDelete, NamespaceUpdate, SnapshotCommit, SnapshotPrepare, SnapshotRemove,
        TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIo,
        TaskOom, TaskPaused, TaskResumed, TaskStart,
    },
    from_any,
    images::{ImageCreate, ImageDelete, ImageUpdate},
    types::Envelope,
};
use gantry_store::filter;
use prost::Name;
use prost_types::Any;

/// The value at a path. As in containerd, only texts have one.
pub(super) fn field<'a>(envelope: &'a Envelope, path: &[String]) -> Option<Cow<'a, str>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "namespace" => filter::field(&envelope.namespace),
        "topic" => filter::field(&envelope.topic),
        "event" => {
            let value = of_event(envelope.event.as_ref()?, rest)?;
            (!value.is_empty()).then_some(Cow::Owned(value))
        }
        _ => None,
    }
}

/// Messages of other types have no fields here.
fn of_event(event: &Any, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let name = event.type_url.rsplit('/').next()?;
    let known = |package| name.strip_prefix(package);
    let fields = match known("containerd.events.").or(known("containerd.services.images.v1."))? {
        "ContainerCreate" => {
            let ContainerCreate { id, image, runtime } = decode(event)?;
            let runtime = runtime.filter(|_| path_is(rest, "name")).unwrap_or_default().name;
            vec![("id", id), ("image", image), ("runtime", runtime)]
        }
        "ContainerUpdate" => {
            let ContainerUpdate { id, image, labels, snapshot_key } = decode(event)?;
            let label = label(&labels, rest);
            vec![("id", id), ("image", image), ("labels", label), ("snapshot_key", snapshot_key)]
        }
        "ContainerDelete" => vec![("id", decode::<ContainerDelete>(event)?.id)],
        "ContentDelete" => vec![("digest", decode::<ContentDelete>(event)?.digest)],
        "ImageCreate" => {
            let ImageCreate { name, labels } = decode(event)?;
            vec![("name", name), ("labels", label(&labels, rest))]
        }
        "ImageUpdate" => {
            let ImageUpdate { name, labels } = decode(event)?;
            vec![("name", name), ("labels", label(&labels, rest))]
        }
        "ImageDelete" => vec![("name", decode::<ImageDelete>(event)?.name)],
        "NamespaceCreate" => {
            let NamespaceCreate { name, labels } = decode(event)?;
            vec![("name", name), ("labels", label(&labels, rest))]
        }
        "NamespaceUpdate" => {
            let NamespaceUpdate { name, labels } = decode(event)?;
            vec![("name", name), ("labels", label(&labels, rest))]
        }
        "NamespaceDelete" => vec![("name", decode::<NamespaceDelete>(event)?.name)],
        "SnapshotPrepare" => {
            let SnapshotPrepare { key, parent, snapshotter } = decode(event)?;
            vec![("key", key), ("parent", parent), ("snapshotter", snapshotter)]
        }
        "SnapshotCommit" => {
            let SnapshotCommit { key, name, snapshotter } = decode(event)?;
            vec![("key", key), ("name", name), ("snapshotter", snapshotter)]
        }
        "SnapshotRemove" => {
            let SnapshotRemove { key, snapshotter } = decode(event)?;
            vec![("key", key), ("snapshotter", snapshotter)]
        }
        "TaskCreate" => {
            let TaskCreate { container_id, bundle, io, checkpoint, .. } = decode(event)?;
            let io = io.and_then(|io| of_io(io, rest)).unwrap_or_default();
            let id = ("container_id", container_id);
            vec![id, ("bundle", bundle), ("io", io), ("checkpoint", checkpoint)]
        }
        "TaskStart" => vec![("container_id", decode::<TaskStart>(event)?.container_id)],
        "TaskDelete" => {
            let TaskDelete { container_id, id, .. } = decode(event)?;
            vec![("container_id", container_id), ("id", id)]
        }
        "TaskExit" => {
            let TaskExit { container_id, id, .. } = decode(event)?;
            vec![("container_id", container_id), ("id", id)]
        }
        "TaskOOM" => vec![("container_id", decode::<TaskOom>(event)?.container_id)],
        "TaskExecAdded" => {
            let TaskExecAdded { container_id, exec_id } = decode(event)?;
            vec![("container_id", container_id), ("exec_id", exec_id)]
        }
        "TaskExecStarted" => {
            let TaskExecStarted { container_id, exec_id, .. } = decode(event)?;
            vec![("container_id", container_id), ("exec_id", exec_id)]
        }
        "TaskPaused" => vec![("container_id", decode::<TaskPaused>(event)?.container_id)],
        "TaskResumed" => vec![("container_id", decode::<TaskResumed>(event)?.container_id)],
        "TaskCheckpointed" => {
            let TaskCheckpointed { container_id, checkpoint } = decode(event)?;
            vec![("container_id", container_id), ("checkpoint", checkpoint)]
        }
        _ => return None,
    };
    fields.into_iter().find_map(|(name, value)| (name == first).then_some(value))
}

fn of_io(io: TaskIo, path: &[String]) -> Option<String> {
    match path.first()?.as_str() {
        "stdin" => Some(io.stdin),
        "stdout" => Some(io.stdout),
        "stderr" => Some(io.stderr),
        _ => None,
    }
}

fn path_is(path: &[String], field: &str) -> bool {
    path.first().is_some_and(|first| first == field)
}

fn label(labels: &BTreeMap<String, String>, path: &[String]) -> String {
    filter::label(labels, path).unwrap_or_default().into_owned()
}

/// None if the bytes are not those of such a message: clients can publish any.
fn decode<M: Name + Default>(event: &Any) -> Option<M> {
    from_any(event).ok().flatten()
}

#[cfg(test)]
mod tests {
    use gantry_api::containerd::{event_types::container_create, to_any};
    use gantry_store::filter::Filters;

    use super::*;

    fn matches(filter: &str, event: &impl Name) -> bool {
        let envelope = Envelope {
            timestamp: None,
            namespace: "moby".to_owned(),
            topic: "/tasks/exit".to_owned(),
            event: Some(to_any(event)),
        };
        let filters = Filters::parse(&[filter]).unwrap();
        filters.matches(&|path| field(&envelope, path))
    }

    #[test]
    fn filters_ask_for_fields_of_messages() {
        let (container_id, id) = ("c1".to_owned(), "e1".to_owned());
        let exit = TaskExit { container_id, id, pid: 7, exit_status: 1, exited_at: None };
        for (filter, expected) in [
            ("", true),
            ("namespace==moby,topic~=|^/tasks/|", true),
            ("namespace==other", false),
            ("event.container_id==c1", true),
            ("event.container_id==c1,event.id==e1", true),
            ("event.container_id==c2", false),
            ("event.id!=e1", false),
            ("event.pid", false),
            ("event.nosuch", false),
            ("event", false),
            ("timestamp", false),
            ("nosuch!=x", true),
        ] {
            assert_eq!(matches(filter, &exit), expected, "{filter}");
        }
    }

    #[test]
    fn messages_in_messages_and_labels_have_paths() {
        let io = TaskIo { stdout: "/f/out".to_owned(), ..TaskIo::default() };
        let create = TaskCreate { io: Some(io), ..TaskCreate::default() };
        assert!(matches("event.io.stdout==\"/f/out\"", &create));
        assert!(!matches("event.io.stdin", &create));
        assert!(!matches("event.io", &create));
        assert!(!matches("event.io.stdout", &TaskCreate::default()));
        let runtime = container_create::Runtime { name: "runc".to_owned(), options: None };
        let create = ContainerCreate { runtime: Some(runtime), ..ContainerCreate::default() };
        assert!(matches("event.runtime.name==runc", &create));
        assert!(!matches("event.runtime", &create));
        let labels = BTreeMap::from([("a.b/c".to_owned(), "v".to_owned())]);
        let update = ContainerUpdate { labels, ..ContainerUpdate::default() };
        assert!(matches("event.labels.a.\"b/c\"==v", &update));
        assert!(!matches("event.labels.a", &update));
    }

    /// Each has a field of the name that is asked for, and none has another's.
    #[test]
    fn all_known_messages_have_fields() {
        let id = || "x".to_owned();
        assert!(matches("event.id==x", &ContainerDelete { id: id() }));
        assert!(matches("event.digest==x", &ContentDelete { digest: id() }));
        let labels = BTreeMap::from([("l".to_owned(), id())]);
        let both = "event.name==x,event.labels.l==x";
        assert!(matches(both, &NamespaceCreate { name: id(), labels: labels.clone() }));
        assert!(matches(both, &NamespaceUpdate { name: id(), labels: labels.clone() }));
        assert!(matches(both, &ImageCreate { name: id(), labels: labels.clone() }));
        assert!(matches(both, &ImageUpdate { name: id(), labels }));
        assert!(matches("event.name==x", &ImageDelete { name: id() }));
        assert!(matches("event.name==x", &NamespaceDelete { name: id() }));
        let container = "event.container_id==x";
        assert!(matches(container, &TaskStart { container_id: id(), pid: 1 }));
        assert!(matches(container, &TaskOom { container_id: id() }));
        assert!(matches(container, &TaskPaused { container_id: id() }));
        assert!(matches(container, &TaskResumed { container_id: id() }));
        let delete = TaskDelete { container_id: id(), ..TaskDelete::default() };
        assert!(matches("event.container_id==x,event.id!=x", &delete));
        let exec = "event.container_id==x,event.exec_id==x";
        assert!(matches(exec, &TaskExecAdded { container_id: id(), exec_id: id() }));
        assert!(matches(exec, &TaskExecStarted { container_id: id(), exec_id: id(), pid: 1 }));
        let checkpointed = TaskCheckpointed { container_id: id(), checkpoint: id() };
        assert!(matches("event.container_id==x,event.checkpoint==x", &checkpointed));
    }

    #[test]
    fn what_cannot_be_decoded_has_no_fields() {
        let envelope = |type_url: &str, value: &[u8]| Envelope {
            event: Some(Any { type_url: type_url.to_owned(), value: value.to_owned() }),
            ..Envelope::default()
        };
        let path = ["event".to_owned(), "container_id".to_owned()];
        for (type_url, value) in
            [("containerd.events.TaskOOM", &b"\xff"[..]), ("a.b", b""), ("", b""), ("/", b"")]
        {
            assert_eq!(field(&envelope(type_url, value), &path), None, "{type_url}");
        }
        let oom = to_any(&TaskOom { container_id: "c".to_owned() });
        let slash = envelope("type.googleapis.com/containerd.events.TaskOOM", &oom.value);
        assert_eq!(field(&slash, &path).as_deref(), Some("c"));
        assert_eq!(field(&Envelope::default(), &path), None);
        assert_eq!(field(&slash, &[]), None);
    }
}
