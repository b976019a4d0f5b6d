//! Turns a new process into a shim: its session, children and signals.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{getpid, set_child_subreaper, setsid};

/// Returns the signalfd on which the end of a child is reported.
pub(crate) fn become_shim() -> io::Result<OwnedFd> {
    crate::sys::close_inherited();
    // Fails only for the leader of a process group, which is no longer in its parent's group.
    let _ = setsid();
    // What the runtime leaves behind, first of all the process itself, becomes a child of the shim.
    set_child_subreaper(Some(getpid()))?;
    crate::sys::reset_dispositions();
    crate::sys::block_signals()
}
