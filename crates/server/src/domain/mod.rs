//! What the service is about, without IO, tasks or clocks: ids, exit statuses, events, and the
//! rules by which a container lives.

mod event;
mod exit_status;
mod id;
mod lifecycle;
#[cfg(test)]
mod lifecycle_properties;
mod process;

pub(crate) use event::{Event, EventKind, Life, Timestamp};
pub(crate) use exit_status::ExitStatus;
pub(crate) use id::{ContainerId, ContainerKey, Namespace, ProcessId};
pub(crate) use lifecycle::{Lifecycle, Phase, Refusal};
pub(crate) use process::{ConsoleSize, ProcessSpec, Rlimit, Stdio, User};
