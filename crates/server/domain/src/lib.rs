//! What the service is about, without IO, tasks or clocks: ids, exit statuses, events, and the
//! rules by which a container lives.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod event;
mod exit_status;
mod id;
#[cfg(test)]
mod kept_properties;
mod kind;
mod labels;
mod lifecycle;
#[cfg(test)]
mod lifecycle_properties;
mod namespace;
mod phase;
mod process;

pub use event::{Created, Event, EventKind, Generation, Mount, Timestamp};
pub use exit_status::{Exit, ExitStatus};
pub use id::{ContainerId, ContainerKey, InvalidId, ProcessId};
pub use kind::Kind;
pub use labels::{Labels, WantedLabel};
pub use lifecycle::Lifecycle;
pub use namespace::{InvalidNamespace, Namespace};
pub use phase::{Phase, ProcessPhase, Refusal, Retention};
pub use process::{ConsoleSize, ProcessSpec, Rlimit, Stdio, User};
