//! The network of another container, together with its name and its files.

use std::{path::PathBuf, sync::Arc};

use super::{Connection, Files, Namespace};
use crate::{
    Error, Result,
    host::Host,
    model::{Networking, Record, Status},
    netns::NetworkNamespace,
};

pub(super) fn join(host: &Arc<Host>, record: &Record, target: &str) -> Result<Connection> {
    let refuse = |why| Error::CannotJoin { target: target.to_owned(), why };
    let other = host.store.find(target).map_err(|error| match error {
        Error::NoSuchContainer(_) => refuse("there is none"),
        error => error,
    })?;
    let theirs = other.record();
    if theirs.id == record.id {
        return Err(refuse("it is this container"));
    }
    if theirs.state.status != Status::Running {
        return Err(refuse("it does not run"));
    }
    let namespace = match theirs.config.networking {
        Networking::Bridge(_) => host.netns(&theirs.id),
        // These are not held by a file of the daemon's, but by their processes.
        Networking::Host | Networking::Container(_) | Networking::None | Networking::Disabled => {
            PathBuf::from(format!("/proc/{}/ns/net", theirs.state.pid))
        }
    };
    let held = NetworkNamespace::hold(&namespace, host.netns(&record.id))?;
    // Had it ended in between, the pid could have been another's.
    if other.record().state.pid != theirs.state.pid {
        return Err(refuse("it does not run"));
    }
    Ok(Connection {
        namespace: Namespace::At(held.path().to_owned()),
        identity: theirs.state.identity,
        files: theirs.state.files.map_or(Files::Absent, Files::Shared),
        _guards: (None, Some(held), None),
    })
}
