//! The API surfaces: each parses a request, asks the supervisor or the store, and replies, with a
//! mapping of errors to codes of its own. Protobuf types end here.

pub(crate) mod containerd;
mod exit;
pub(crate) mod gantry;
mod numbers;
mod path;
mod time;
pub(crate) mod types;

use std::sync::Arc;

use gantry_supervisor::Supervisor;
use tokio::sync::SetOnce;

use crate::metadata::Metadata;

/// The supervisor, once it has taken over the containers of an earlier server. Requests wait for
/// that; the health service does not.
pub(crate) type PendingSupervisor = Arc<SetOnce<Supervisor>>;

/// The store of what outlives a boot, once it is open. Requests wait for that as for the supervisor.
pub(crate) type PendingMetadata = Arc<SetOnce<Metadata>>;
