//! The client against a server of the contract whose every answer the tests decide.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

mod connect;
mod create;
mod errors;
mod events;
mod fake;
mod monitors;
mod restart;
mod restore;
mod streams;
mod wait;
