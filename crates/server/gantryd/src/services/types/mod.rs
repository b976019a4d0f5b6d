//! `types.API`, the contract of proto/types/api.proto.

mod capabilities;
mod convert;
mod events;
mod parse;
mod resources;
mod service;
mod state;
mod stats;
mod status;

use gantry_domain::Namespace;
pub(crate) use service::Api;

/// Its containers live in one namespace.
const NAMESPACE: Namespace = Namespace::TYPES_API;
