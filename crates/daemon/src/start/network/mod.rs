//! Gives a container its network, one way for each mode.

mod bridge;
mod container;
mod host;
mod none;

use std::{path::PathBuf, sync::Arc};

use crate::{
    Result,
    container::Container,
    host::Host,
    model::{Identity, Networking, Record},
    netns::NetworkNamespace,
};

/// What the network step hands on. Dropping it disconnects the container.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) namespace: Namespace,
    pub(crate) identity: Identity,
    pub(crate) files: Files,
    _guards: Guards,
}

/// In the order in which they are undone.
type Guards = (Option<bridge::Interfaces>, Option<NetworkNamespace>, Option<bridge::Reservation>);

/// The network namespace of a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Namespace {
    /// A new one, made by the runtime.
    Own,
    /// One that is held by this file.
    At(PathBuf),
    /// The host's.
    Host,
}

/// The files about a container's network: hosts, hostname and resolv.conf.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Files {
    /// Written for it.
    Own,
    /// Written for it, as the host's own ones.
    LikeHost,
    /// Those in the directory of another container.
    Shared(PathBuf),
    /// None.
    Absent,
}

/// Connects a container as it is configured.
pub(crate) fn connect(host: &Arc<Host>, container: &Arc<Container>) -> Result<Connection> {
    let record = container.record();
    match &record.config.networking {
        Networking::Bridge(bridge) => bridge::connect(host, container, bridge),
        Networking::Host => Ok(host::connect(&record)),
        Networking::Container(target) => container::join(host, &record, target),
        Networking::None => Ok(none::connect(&record, Files::Own)),
        Networking::Disabled => Ok(none::connect(&record, Files::Absent)),
    }
}

/// Takes over what there is of an earlier daemon's connection, to disconnect it in the end.
pub(crate) fn adopt(host: &Arc<Host>, container: &Arc<Container>) -> Connection {
    let record = container.record();
    let guards = match record.config.networking {
        Networking::Bridge(_) => bridge::adopt(host, container),
        Networking::Container(_) => {
            (None, Some(NetworkNamespace::adopt(host.netns(&record.id))), None)
        }
        Networking::Host | Networking::None | Networking::Disabled => (None, None, None),
    };
    Connection {
        namespace: Namespace::Own,
        identity: record.state.identity,
        files: Files::Absent,
        _guards: guards,
    }
}

/// The names that the container asks for, or else this one.
fn identity_or(record: &Record, hostname: &str) -> Identity {
    Identity {
        hostname: record.config.hostname.clone().unwrap_or_else(|| hostname.to_owned()),
        domainname: record.config.domainname.clone(),
    }
}
