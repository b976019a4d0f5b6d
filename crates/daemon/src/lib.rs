//! A reference daemon: keeps containers on disk, and gives them a root filesystem and a network
//! before it starts them through gantryd.
//!
//! It shows what a daemon does around [`gantry_client`]; [`Daemon::start`] is the heart of it.

#![forbid(unsafe_code)]

mod container;
mod daemon;
mod error;
mod exit;
mod host;
mod json_file;
mod lookup;
pub mod model;
mod names;
mod netavark;
mod netns;
mod networks;
mod options;
mod reply;
mod request;
mod restart;
mod restore;
mod rpc;
mod start;
mod status;
mod stop;
mod store;
mod subnet;

pub use daemon::Daemon;
pub use error::{Error, Result};
pub use networks::Network;
pub use options::Options;
pub use start::Checkpoint;
pub use subnet::{BadSubnet, Subnet};

/// Package `gantry.daemon.v1`: the service's messages and stubs.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod proto {
    tonic::include_proto!("gantry.daemon.v1");

    /// The encoded descriptor set, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
