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

pub(crate) use service::Api;
