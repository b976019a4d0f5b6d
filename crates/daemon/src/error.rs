//! What can go wrong, and what a container's exit code is when it could not be started.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What the calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container has this id, name or prefix.
    #[error("no such container: {0}")]
    NoSuchContainer(String),
    /// A prefix fits several ids.
    #[error("{prefix} fits several containers: {}", candidates.join(", "))]
    Ambiguous {
        /// What was looked for.
        prefix: String,
        /// `id (name)` of each.
        candidates: Vec<String>,
    },
    /// The name belongs to another container or network.
    #[error("the name {name} is taken by {owner}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        owner: String,
    },
    /// A field of the request is invalid.
    #[error("{field}: {message}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The container is in a state that does not allow the call.
    #[error("container {id} is {state}")]
    WrongState {
        /// The container's id.
        id: String,
        /// What it is instead.
        state: &'static str,
    },
    /// A container cannot have the network of another one.
    #[error("cannot join the network of container {target}: {why}")]
    CannotJoin {
        /// The other one, as it was named.
        target: String,
        /// What is in the way.
        why: &'static str,
    },
    /// Something on the host that a container is configured with is not there, or cannot be used.
    #[error("{field}: cannot use {}: {source}", path.display())]
    Unusable {
        /// The field that names it.
        field: &'static str,
        /// What it names.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// No network has this name.
    #[error("no such network: {0}")]
    NoSuchNetwork(String),
    /// The network is used.
    #[error("network {network} is used by container {container}")]
    NetworkInUse {
        /// Its name.
        network: String,
        /// Name of one that uses it.
        container: String,
    },
    /// All addresses of a network are given away.
    #[error("network {0} has no free address")]
    NoFreeAddress(String),
    /// There is no room for a further network.
    #[error("no subnet is free: name one")]
    NoFreeSubnet,
    /// Another container has published the port.
    #[error("port {port} of the host is published by container {container}")]
    PortTaken {
        /// Port and protocol.
        port: String,
        /// Name of the one that has it.
        container: String,
    },
    /// netavark refused or failed.
    #[error("netavark {action} for container {id}: {message}")]
    Netavark {
        /// Its command.
        action: &'static str,
        /// The container's id.
        id: String,
        /// Its own words.
        message: String,
    },
    /// A file or directory.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What with.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A specification that cannot be built.
    #[error("cannot build the specification: {0}")]
    Spec(#[from] gantry_client::oci_spec::OciSpecError),
    /// What gantryd or the runtime said.
    #[error(transparent)]
    Server(#[from] gantry_client::Error),
    /// The container survives SIGKILL.
    #[error("container {0} does not end")]
    DoesNotEnd(String),
    /// A task of the daemon has panicked.
    #[error("internal error: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Error {
        Error::Io { operation, path: path.into(), source: source.into() }
    }

    pub(crate) fn unusable(field: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Unusable { field, path: path.to_owned(), source }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Error {
        Error::Invalid { field, message: message.into() }
    }

    /// The exit code of a container that could not be started: 127 for a program that was not
    /// found, 126 for one that cannot be run, 128 for everything else.
    pub(crate) fn start_exit_code(&self) -> u32 {
        match self {
            Error::Server(error) => error.start_exit_code().into(),
            _ => 128,
        }
    }
}
