//! Descriptors that tokio watches.
#![allow(unsafe_code, reason = "tokio cannot know that a descriptor stays what it is")]

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Has tokio watch a descriptor. To be called inside the runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, always gives the same number, and goes
    // into the `AsyncFd`, which lends it but never swaps it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}
