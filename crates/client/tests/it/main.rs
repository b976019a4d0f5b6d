//! The client against a server of the contract whose every answer the tests decide.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

mod create;
mod events;
mod fake;
mod restore;
mod streams;
mod wait;
