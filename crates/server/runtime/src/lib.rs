//! The one seam to OCI runtimes: what they are given (bundles), how they are called (command
//! lines), and what they make of a container's memory (checkpoints).

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

pub mod bundle;
pub mod checkpoint;
mod cli;
mod trace;

pub use cli::*;
pub use trace::{step, traced};
