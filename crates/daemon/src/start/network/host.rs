//! The host's network, under the host's name unless the container has one.

use super::{Connection, Files, Namespace, identity_or};
use crate::model::Record;

pub(super) fn connect(record: &Record) -> Connection {
    let uname = rustix::system::uname();
    Connection {
        namespace: Namespace::Host,
        identity: identity_or(record, &uname.nodename().to_string_lossy()),
        files: Files::LikeHost,
        _guards: (None, None, None),
    }
}
