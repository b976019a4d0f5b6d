//! The services that clients of containerd call to run containers, from `proto/containerd`, with what
//! travels in their `Any`s. The `.proto` files say what each call and field means.

pub use generated::{
    containerd::{
        events as event_types,
        runc::v1 as runc,
        services::{
            containers::v1 as containers, content::v1 as content, diff::v1 as diff,
            events::v1 as events, images::v1 as images, introspection::v1 as introspection,
            leases::v1 as leases, namespaces::v1 as namespaces, snapshots::v1 as snapshots,
            streaming::v1 as streaming, tasks::v1 as tasks, transfer::v1 as transfer,
            version::v1 as version,
        },
        types,
        v1::types as task_types,
    },
    google::rpc,
    io::containerd::cgroups::{v1 as cgroups_v1, v2 as cgroups_v2},
};
use prost::{DecodeError, Name};
use prost_types::Any;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/containerd.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of `proto/containerd`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/containerd.bin"));

/// gRPC metadata key of the namespace that a call is about.
pub const NAMESPACE_METADATA: &str = "containerd-namespace";

/// gRPC metadata key of the lease that what a call writes is added to.
pub const LEASE_METADATA: &str = "containerd-lease";

/// Values of `Any.type_url` for JSON of the OCI runtime specification; 1 is the specification's
/// major version.
pub mod type_url {
    /// A whole `config.json`: `Container.spec`.
    pub const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
    /// Its `process`: `ExecProcessRequest.spec`.
    pub const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
    /// Its `linux.resources`: `UpdateTaskRequest.resources`.
    pub const LINUX_RESOURCES: &str =
        "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    /// What a runtime prints for its command `features`: `RuntimeInfo.features`.
    pub const FEATURES: &str =
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
}

/// Values of `Envelope.topic`; each names the message of [`event_types`] that comes with it.
pub mod topic {
    /// `ContainerCreate`
    pub const CONTAINER_CREATE: &str = "/containers/create";
    /// `ContainerUpdate`
    pub const CONTAINER_UPDATE: &str = "/containers/update";
    /// `ContainerDelete`
    pub const CONTAINER_DELETE: &str = "/containers/delete";
    /// `ContentDelete`
    pub const CONTENT_DELETE: &str = "/content/delete";
    /// `ImageCreate`, of [`images`](super::images), as the next two
    pub const IMAGE_CREATE: &str = "/images/create";
    /// `ImageUpdate`
    pub const IMAGE_UPDATE: &str = "/images/update";
    /// `ImageDelete`
    pub const IMAGE_DELETE: &str = "/images/delete";
    /// `NamespaceCreate`
    pub const NAMESPACE_CREATE: &str = "/namespaces/create";
    /// `NamespaceUpdate`
    pub const NAMESPACE_UPDATE: &str = "/namespaces/update";
    /// `NamespaceDelete`
    pub const NAMESPACE_DELETE: &str = "/namespaces/delete";
    /// `SnapshotPrepare`
    pub const SNAPSHOT_PREPARE: &str = "/snapshot/prepare";
    /// `SnapshotCommit`
    pub const SNAPSHOT_COMMIT: &str = "/snapshot/commit";
    /// `SnapshotRemove`
    pub const SNAPSHOT_REMOVE: &str = "/snapshot/remove";
    /// `TaskCreate`
    pub const TASK_CREATE: &str = "/tasks/create";
    /// `TaskStart`
    pub const TASK_START: &str = "/tasks/start";
    /// `TaskOom`
    pub const TASK_OOM: &str = "/tasks/oom";
    /// `TaskExit`
    pub const TASK_EXIT: &str = "/tasks/exit";
    /// `TaskDelete`
    pub const TASK_DELETE: &str = "/tasks/delete";
    /// `TaskExecAdded`
    pub const TASK_EXEC_ADDED: &str = "/tasks/exec-added";
    /// `TaskExecStarted`
    pub const TASK_EXEC_STARTED: &str = "/tasks/exec-started";
    /// `TaskPaused`
    pub const TASK_PAUSED: &str = "/tasks/paused";
    /// `TaskResumed`
    pub const TASK_RESUMED: &str = "/tasks/resumed";
    /// `TaskCheckpointed`
    pub const TASK_CHECKPOINTED: &str = "/tasks/checkpointed";
}

/// A message in an `Any` as clients of containerd expect it: the type_url is the message's full name
/// alone, where `Any::from_msg` puts a slash before it.
pub fn to_any<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// The message in an `Any`; none when it is of another type. What comes before the last slash of the
/// type_url does not count, and no slash is needed.
///
/// # Errors
/// The type is the right one and its bytes are not.
pub fn from_any<M: Name + Default>(any: &Any) -> Result<Option<M>, DecodeError> {
    let name = any.type_url.rsplit_once('/').map_or(any.type_url.as_str(), |(_, name)| name);
    if name == M::full_name() { M::decode(any.value.as_slice()).map(Some) } else { Ok(None) }
}
