//! The one seam to OCI runtimes: what they are given (bundles), how they are called (command
//! lines), and what they make of a container's memory (checkpoints).

pub mod bundle;
pub mod checkpoint;
mod cli;

pub use cli::*;
