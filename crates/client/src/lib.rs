//! What a daemon embeds to start, watch and stop containers.
//!
//! [`Client::connect`] opens one connection to a gantryd (or to another server of the `types.API`
//! contract) and keeps it open across restarts of the server. [`Client::create`] describes a
//! container and starts it from a bundle directory that it writes; the [`Container`] it gives is a
//! handle to wait, exec, signal, pause, measure and checkpoint. [`EventFollower`] delivers to a daemon
//! the events of all of its containers, [`Client::restore`] finds them again after a restart of the
//! daemon, and [`supervise`] runs the server itself.
//!
//! Errors name the operation and are sorted by what a daemon does about them, see [`ErrorKind`].
//!
//! # The start path
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use gantry_client::{
//!     Client, ErrorKind, Stdio,
//!     spec::{DefaultSpec, seccomp_profile},
//! };
//! use tokio::io;
//!
//! # async fn start() -> Result<u32, Box<dyn std::error::Error>> {
//! let client = Client::connect("/run/gantry/gantryd.sock", Duration::from_secs(15)).await?;
//!
//! let spec = DefaultSpec::new("/srv/web", ["/bin/web".to_owned()])
//!     .hostname("web")
//!     .cgroups_path("/daemon/web")
//!     .seccomp(seccomp_profile()?)
//!     .build()?;
//!
//! // Called before the process starts, so that its output is read from the first byte on.
//! let copy_logs = |streams: gantry_client::ProcessStdio| {
//!     if let Some(mut stdout) = streams.stdout {
//!         tokio::spawn(async move { io::copy(&mut stdout, &mut io::stdout()).await });
//!     }
//!     Ok(())
//! };
//! let created = client
//!     .create("web", Path::new("/run/daemon/web"))
//!     .spec(spec)
//!     .stdout(Stdio::Pipe)
//!     .attach(copy_logs)
//!     .start()
//!     .await;
//! let container = match created {
//!     Ok(container) => container,
//!     Err(error) if matches!(error.kind(), ErrorKind::RuntimeFailed { .. }) => {
//!         // Nothing is left of it; the user gets the status with which a shell would exit.
//!         return Ok(error.start_exit_code().into());
//!     }
//!     Err(error) => return Err(error.into()),
//! };
//!
//! // Answers whenever it is asked, also long after the end.
//! let exit = container.wait().await?;
//! container.remove_bundle()?;
//! # Ok(exit.status)
//! # }
//! ```
//!
//! Streams, handles and futures belong to the tokio runtime they were made in.

mod backoff;
mod bundle;
mod call;
mod checkpoint;
mod client;
mod connect;
mod connection;
mod container;
mod create;
mod ended;
mod environment;
mod error;
mod event;
mod event_stream;
mod exec;
mod exits;
mod follower;
mod pipes;
mod process;
mod restore;
mod signal;
pub mod spec;
mod start;
mod start_call;
mod state;
mod stats;
mod status;
mod stdio;
pub mod supervise;
mod watch;
mod wire;

pub use client::{Client, ServerVersion};
pub use connect::ClientBuilder;
pub use container::{Container, remove_bundle};
pub use create::ContainerBuilder;
pub use error::{Answer, Error, ErrorKind, FieldViolation, Result};
pub use event::{Event, EventFilter, EventKind};
pub use event_stream::EventStream;
pub use exec::ExecBuilder;
pub use exits::Exit;
pub use follower::{EventFollower, EventHandler, StateChange};
pub use gantry_api::{INIT, Timestamp, types};
pub use oci_spec;
pub use process::{ConsoleSize, Process};
pub use restore::{Restore, Restored};
pub use signal::{Signal, UnknownSignal};
pub use stats::StatsStream;
pub use status::start_exit_code;
pub use stdio::{Output, ProcessStdio, Stdin, Stdio};
pub use tonic::transport::Channel;
pub use watch::{Watch, Watched};

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
