//! The part of the server's module that is fuzzed.

#[path = "../../crates/server/src/bundle/config.rs"]
mod config;
#[path = "../../crates/server/src/bundle/escape.rs"]
mod escape;
#[path = "../../crates/server/src/bundle/json.rs"]
mod json;

pub(crate) use config::Config;
pub(crate) use json::Dialect;
