//! What a daemon embeds to start, watch and stop containers.

#![forbid(unsafe_code)]

mod backoff;
mod bundle;
mod checkpoint;
mod client;
mod connection;
mod container;
mod create;
mod error;
mod event;
mod exec;
mod exits;
mod pipes;
mod process;
mod restore;
mod signal;
mod start;
mod stats;
mod status;
mod stdio;
mod wire;

pub use client::{Client, ServerVersion};
pub use container::{Container, remove_bundle};
pub use create::ContainerBuilder;
pub use error::{Error, ErrorKind, FieldViolation, Result};
pub use event::{Event, EventFilter, EventKind, EventStream};
pub use exec::ExecBuilder;
pub use exits::Exit;
pub use gantry_api::{INIT, Timestamp, types};
pub use oci_spec;
pub use process::{ConsoleSize, Process};
pub use restore::{Restore, Restored};
pub use signal::{Signal, UnknownSignal};
pub use stats::StatsStream;
pub use stdio::{Output, ProcessStdio, Stdin, Stdio};

#[cfg(test)]
mod tests {
    use super::*;

    fn usable_from_any_thread<T: Send + Sync>() {}

    #[test]
    fn handles_can_be_shared_between_threads() {
        usable_from_any_thread::<Client>();
        usable_from_any_thread::<Container>();
        usable_from_any_thread::<Process>();
        usable_from_any_thread::<ProcessStdio>();
    }
}
