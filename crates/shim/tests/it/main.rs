//! Drives the real shim over a socket pair: against shell scripts that stand for a runtime, and
//! against runc, which takes root.
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

mod bundle;
mod container;
mod exit;
mod harness;
