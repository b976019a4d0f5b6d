//! The metadata that containerd's clients keep in their daemon, and the filters by which they list.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

pub mod filter;
