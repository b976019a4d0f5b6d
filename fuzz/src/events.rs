//! The part of the server's module that is fuzzed.

#[path = "../../crates/server/src/events/record.rs"]
pub(crate) mod record;
