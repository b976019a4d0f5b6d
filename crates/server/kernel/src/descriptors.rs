//! How many descriptors the server has left, and in which order the kernel closes them.
#![allow(unsafe_code, reason = "nix returns a new descriptor as a number")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::resource::{Resource, getrlimit},
};

/// The share of the limit that is not used for containers that the server reattaches to: requests, runtime calls and
/// new connections need descriptors too, or no descriptor would ever become free.
const RESERVED_SHARE: libc::rlim_t = 4;

/// So many are enough, however high the limit is.
const MAX_RESERVED: libc::rlim_t = 32;

/// Whether there was more than the reserve left when this descriptor was opened: the kernel gives
/// the lowest number that is free, see open(2). The limit is asked for each time, since it can be
/// raised from outside, see prlimit(2).
pub fn leaves_room(fd: &impl AsRawFd) -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(true, |(limit, _)| is_below(fd.as_raw_fd(), limit))
}

/// Above all that a server has open with a thousand containers. The kernel has a table as long as the
/// highest number, 8 bytes for each, and copies it when a process is started.
const LAST: libc::rlim_t = 8191;

/// How many such descriptors fit below a low limit, less one.
const MOST_FIRST: RawFd = 15;

/// Gives a descriptor a number that is higher than those of all that are opened later. The kernel
/// closes the files of a process that was killed from the highest number to the lowest (since Linux
/// 4.3, where work that a task has put off for its end is done in reverse order).
pub fn closed_first(fd: OwnedFd) -> OwnedFd {
    let last = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| LAST.min(limit - 1));
    let last = RawFd::try_from(last).unwrap_or_default();
    // Below a low limit the last numbers may be those of other such descriptors.
    let numbers = (last - MOST_FIRST..=last).rev().filter(|number| *number > fd.as_raw_fd());
    for number in numbers {
        if let Ok(moved) = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(number)) {
            // SAFETY: the kernel has just made this descriptor, and nothing else knows of it.
            return unsafe { OwnedFd::from_raw_fd(moved) };
        }
    }
    // The limit was lowered meanwhile: the descriptor works with its own number too.
    fd
}

fn is_below(fd: RawFd, limit: libc::rlim_t) -> bool {
    let reserved = MAX_RESERVED.min(limit / RESERVED_SHARE);
    libc::rlim_t::try_from(fd).is_ok_and(|fd| fd < limit - reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_closed_first_has_the_highest_number() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let moved = closed_first(file.into());
        let later = std::fs::File::open("/dev/null").unwrap();
        assert!(moved.as_raw_fd() > later.as_raw_fd() + 100);
    }

    #[test]
    fn a_part_of_a_low_limit_is_kept() {
        assert!(is_below(47, 64));
        assert!(!is_below(48, 64));
        assert!(is_below(991, 1024));
        assert!(!is_below(992, 1024));
        assert!(is_below(1 << 20, libc::RLIM_INFINITY));
    }
}
