//! The records that gantryd and gantry-shim exchange, and the files that a shim writes.
//!
//! Records go over a unix `SOCK_SEQPACKET` socket; one packet is one record. A shim may outlive the
//! server that started it by months, so the format only ever grows:
//!
//! - a packet is `version: u8`, `kind: u8`, then the record's fields in order;
//! - integers are little-endian, strings and lists are prefixed with a `u32` length;
//! - a new field is appended to its record and missing ones read as zero or empty;
//! - a receiver ignores kinds that it does not know, and bytes after the fields that it knows.
//!
//! `VERSION` is raised when a record is added, so that a peer knows what the other understands.
//!
//! A shim's working directory is the process's directory in the state directory. In it the shim listens on
//! [`SOCKET_FILE`] for a restarted server and writes the two files that outlive it, [`STARTED_FILE`] and
//! [`EXIT_FILE`], both by rename. A server that connects gets the records so far: none, `Launched`, or
//! `Launched` and then `Exited`.

#![forbid(unsafe_code)]

mod codec;
mod files;
mod record;

pub use codec::DecodeError;
pub use files::{ExitFile, Identity};
pub use record::{FromShim, Launch, LaunchError, ToShim, WaitStatus};

/// Version of the format that this crate writes.
pub const VERSION: u8 = if cfg!(feature = "next") { 2 } else { 1 };

/// The shim's end of the first connection, given to it as its standard input.
pub const LINK_FD: i32 = 0;

/// Largest packet; a longer one is refused by the sender.
pub const MAX_PACKET: usize = 192 * 1024;

/// Listening socket of the shim, for a server that was restarted.
pub const SOCKET_FILE: &str = "shim.sock";
/// Socket on which the runtime hands over the terminal, see `--console-socket` of runc(8).
pub const CONSOLE_FILE: &str = "console.sock";
/// Written by the runtime: the pid of the process it started, in decimal.
pub const PID_FILE: &str = "pid";
/// Written by the runtime: its log, one JSON object a line.
pub const LOG_FILE: &str = "log.json";
/// Written by the shim before it sends `Launched`: [`Identity`] as JSON.
pub const STARTED_FILE: &str = "started.json";
/// Written by the shim before it sends `Exited`: [`ExitFile`] as JSON.
pub const EXIT_FILE: &str = "exit.json";
