//! Data that go to the disk before anybody waits for them.
#![allow(unsafe_code, reason = "nix does not have the call")]

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Has the kernel begin to write a file's data to the disk. Nothing is lost if that fails: whoever syncs the file or its file
/// system later writes what is left, and is told of errors.
pub fn begin_writeback(file: impl AsFd) {
    let file = file.as_fd();
    // SAFETY: the descriptor is borrowed for the call, which takes numbers only; a length of 0 is up to the file's end.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
