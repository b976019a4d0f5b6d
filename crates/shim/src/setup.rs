//! Turns a fresh process into a shim: its name, session, children and signals.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{getpid, set_child_subreaper, setsid};

/// Returns the signalfd on which the end of a child is reported.
pub(crate) fn become_shim() -> io::Result<OwnedFd> {
    crate::sys::close_inherited();
    take_name();
    // Fails only for the leader of a process group, which has left its parent's already.
    let _ = setsid();
    // What the runtime leaves behind, first of all the process itself, becomes a child of the shim.
    set_child_subreaper(Some(getpid()))?;
    crate::sys::reset_dispositions();
    crate::sys::block_signals()
}

/// The kernel names a process after its executable; the server chose another name in argv[0].
fn take_name() {
    let Some(argv0) = std::env::args_os().next() else { return };
    let Some(name) = Path::new(&argv0).file_name() else { return };
    if let Ok(name) = CString::new(name.as_bytes()) {
        // Cut to 15 bytes by the kernel. A name is not worth failing for.
        let _ = rustix::thread::set_name(&name);
    }
}
