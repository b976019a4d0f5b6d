//! Drives the real shim over a socket pair: against shell scripts that stand for a runtime, and
//! against runc, which takes root.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts processes and panics"
)]

mod abort;
mod bad_logger;
mod bundle;
mod container;
mod exit;
mod file;
mod harness;
mod input;
mod logger;
mod output;
mod terminal;
