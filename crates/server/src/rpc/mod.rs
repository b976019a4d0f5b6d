//! The gRPC services: parse, ask the supervisor, reply. The only user of tonic, and of protobuf
//! types.

mod admission;
mod api;
mod aside;
mod capabilities;
mod convert;
mod endless;
mod events;
mod health;
mod parse;
mod resources;
mod state;
mod stats;
mod status;

use std::sync::Arc;

pub(crate) use admission::{AdmissionLayer, Charge, Peer, Peers};
pub(crate) use api::Api;
pub(crate) use aside::Aside;
pub(crate) use endless::EndlessLayer;
pub(crate) use health::Health;
use tokio::sync::SetOnce;

use crate::supervisor::Supervisor;

/// The supervisor, once it has taken up the containers of an earlier server. Requests wait for
/// that; the health service does not.
pub(crate) type PendingSupervisor = Arc<SetOnce<Supervisor>>;
