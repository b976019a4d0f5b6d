//! What cannot be mended, and why.

/// Words of tokio's when it panics as it is set up: it takes no error for an answer. Nothing is served
/// then, and the service manager's restart is as good as any other end.
const PANICS_AT_START: [&str; 2] = ["OS can't spawn worker thread", "failed to create UnixStream"];

/// Whether a server that has ended before it was ready could not do better, by its log.
pub(crate) fn is_known_panic(log: &str) -> bool {
    PANICS_AT_START.iter().any(|words| log.contains(words))
}
