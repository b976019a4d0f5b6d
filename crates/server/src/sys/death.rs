//! Children that must not outlive the server.
#![allow(unsafe_code, reason = "code between fork and exec")]

use std::{io, os::unix::process::CommandExt, process::Command};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{getpid, getppid},
};

/// Has the kernel kill the command's process when the server dies: one that still pauses a container,
/// say, would otherwise do so after the next server has looked whether it is paused. It counts as
/// the server's death when the calling thread ends, see PR_SET_PDEATHSIG in prctl(2): to be called on
/// threads that last, as tokio's workers do.
pub(crate) fn die_with_server(command: &mut Command) {
    let server = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before.
        if getppid() == server { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}
