//! The contracts as Rust: the messages and stubs generated from `proto/`, their descriptor sets, and
//! the constants that a contract fixes and a `.proto` file cannot express. `types.API` is here, and in [`v1`] what it
//! could not be; with the feature `containerd`, the services of containerd that run containers are in the module of
//! that name.

pub use prost_types::Timestamp;

#[cfg(feature = "containerd")]
pub mod containerd;

/// Package `gantry.v1`: containers of every API, for monitors and for those who wait, and the server in numbers. The
/// messages, and a client and a server of each service, as `container_service_client`.
pub mod v1 {
    pub use generated::*;

    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
    mod generated {
        tonic::include_proto!("gantry.v1");
    }

    /// The encoded `google.protobuf.FileDescriptorSet` of `proto/gantry/v1`, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gantry.bin"));
}

/// Package `types`: the messages, `api_client` and `api_server`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod types {
    tonic::include_proto!("types");
}

/// The encoded `google.protobuf.FileDescriptorSet` of `proto/types`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The id of a container's first process.
pub const INIT: &str = "init";

/// Values of `Event.type`.
pub mod event_type {
    /// A container's first process was started; `pid` is empty.
    pub const START_CONTAINER: &str = "start-container";
    /// A further process was started in a container; `pid` names it.
    pub const START_PROCESS: &str = "start-process";
    /// A process has ended; `pid` names it, "init" or another, and `status` says how.
    pub const EXIT: &str = "exit";
    /// All processes of the container were frozen; `pid` is empty.
    pub const PAUSE: &str = "pause";
    /// All processes of the container were thawed; `pid` is empty.
    pub const RESUME: &str = "resume";
    /// The kernel killed a process of the container because its memory limit was reached;
    /// `pid` is empty.
    pub const OOM: &str = "oom";
}

/// Values of `Container.status`.
pub mod status {
    /// Its first process lives.
    pub const RUNNING: &str = "running";
    /// Its processes are frozen.
    pub const PAUSED: &str = "paused";
    /// Its first process has ended and the container is being removed.
    pub const STOPPED: &str = "stopped";
}

/// `Event.status` of a process whose exit status could not be known.
pub const EXIT_STATUS_UNKNOWN: u32 = 255;

/// gRPC metadata key of `AddProcess`: the terminal's size from its first byte, `WIDTHxHEIGHT` in
/// character cells. The messages have no field for it; servers that do not know the key ignore it.
pub const CONSOLE_SIZE_METADATA: &str = "gantry-console-size";

/// gRPC metadata key of the answer to `State`: ids, separated by commas, of containers that did not
/// answer in time, and whose last known state is returned. At most 4096 bytes; the log has all of them.
pub const STALE_CONTAINERS_METADATA: &str = "gantry-stale-containers";

/// gRPC metadata key of the answer to `Events`: a moment, as in RFC 3339. Some events later than the
/// one asked for, and up to this, are no longer kept; the stream has those that are.
pub const EVENTS_MISSING_METADATA: &str = "gantry-events-missing";
