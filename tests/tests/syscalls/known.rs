//! Points that are not tried: a part of their names, and why.

const KNOWN: [(&str, &str); 12] = [
    ("server socketpair - 1 ", "tokio panics when it is set up, before anything is served"),
    ("restarted socketpair - 1 ", "as before"),
    // What is yet to be mended.
    (" clone3 ", "a thread that cannot be made"),
    ("restarted clone - ", "the runtime's delete is not tried again"),
    ("restarted fcntl /memfd:runtime ", "as before"),
    ("restarted memfd_create ", "as before"),
    ("restarted pipe2 ", "as before"),
    ("restarted fcntl pipe:", "as before"),
    ("restarted/fork execve crun ", "as before"),
    ("{work}/state/trash/", "what is left in the trash is removed at the next start only"),
    ("/shim1 inotify_", "output is lost without an inotify instance"),
    ("restarted getdents64 {work}/state/containers", "processes are forgotten"),
];

/// Whether a point is one of them.
pub(crate) fn is_known(point: &str) -> bool {
    KNOWN.iter().any(|(part, _)| point.contains(part))
}
