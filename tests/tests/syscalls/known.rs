//! Failures that Gantry cannot avoid, and why.

/// tokio's panic messages during its setup, where it cannot return an error. Nothing is served
/// then, and the service manager restarts the server.
const PANICS_AT_START: [&str; 2] = ["OS can't spawn worker thread", "failed to create UnixStream"];

/// Whether a server that has ended before it was ready could not do better, by its log.
pub(crate) fn is_known_panic(log: &str) -> bool {
    PANICS_AT_START.iter().any(|words| log.contains(words))
}
