//! How many descriptors the server has left.

use std::os::fd::{AsRawFd, RawFd};

use nix::{
    libc,
    sys::resource::{Resource, getrlimit},
};

/// Of the limit, what is not given to containers that are taken up: requests, runtime calls and new
/// connections need descriptors too, or else nothing would ever become free.
const RESERVED_SHARE: libc::rlim_t = 4;

/// As many are enough, however high the limit is.
const MAX_RESERVED: libc::rlim_t = 32;

/// Whether there was more than the reserve left when this descriptor was opened: the kernel gives
/// the lowest number that is free, see open(2). The limit is asked for each time, since it can be
/// raised from outside, see prlimit(2).
pub(crate) fn leaves_room(fd: &impl AsRawFd) -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(true, |(limit, _)| is_below(fd.as_raw_fd(), limit))
}

fn is_below(fd: RawFd, limit: libc::rlim_t) -> bool {
    let reserved = MAX_RESERVED.min(limit / RESERVED_SHARE);
    libc::rlim_t::try_from(fd).is_ok_and(|fd| fd < limit - reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_low_limit_is_kept() {
        assert!(is_below(47, 64));
        assert!(!is_below(48, 64));
        assert!(is_below(991, 1024));
        assert!(!is_below(992, 1024));
        assert!(is_below(1 << 20, libc::RLIM_INFINITY));
    }
}
