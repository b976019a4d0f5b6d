//! The reference daemon, from end to end: it and gantryd run in namespaces that each test makes, so
//! nothing of the host's network or mounts is touched.
//!
//! Environment: `GANTRY_DAEMON` is the binary under test; by default the one beside gantryd.

mod bed;
mod errors;
mod failure;
mod lifecycle;
mod network;
mod restart;

use bed::Bed;
