//! A process that can be signalled and waited for without its pid ever meaning another one.
#![allow(unsafe_code, reason = "tokio cannot know that a descriptor stays what it is")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug)]
pub(super) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    pub(super) fn open(pid: Pid) -> io::Result<Pidfd> {
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` is open until it is dropped, always gives the same number, and goes
        // into the `AsyncFd`, which lends it but never swaps it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Pidfd(fd?))
    }

    pub(super) fn send(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.0.as_fd(), signal)?)
    }

    /// Returns when the process has ended: its pidfd becomes readable, see pidfd_open(2).
    pub(super) async fn exited(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut ready| ready.retain_ready())
    }
}
