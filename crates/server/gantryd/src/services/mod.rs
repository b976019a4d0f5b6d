//! The API surfaces: each parses a request, asks the supervisor, and replies, with a mapping of
//! errors to codes of its own. Protobuf types end here.

pub(crate) mod types;

use std::sync::Arc;

use gantry_supervisor::Supervisor;
use tokio::sync::SetOnce;

/// The supervisor, once it has taken over the containers of an earlier server. Requests wait for
/// that; the health service does not.
pub(crate) type PendingSupervisor = Arc<SetOnce<Supervisor>>;
