//! Who is at the other end of a unix socket.
#![allow(unsafe_code, reason = "nix does not have this option")]

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd},
};

use nix::{errno::Errno, libc};

/// As many groups as most users have at most.
const FEW: usize = 32;

/// The supplementary groups that the other end had when it connected (`SO_PEERGROUPS`, Linux 4.13). Its user and
/// its own group are in `SO_PEERCRED`, see unix(7).
pub fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; FEW];
    loop {
        let room = groups.len();
        let size = |count: usize| count * size_of::<libc::gid_t>();
        let mut length = libc::socklen_t::try_from(size(room)).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes into the vector, which has as many, and then the
        // length that there is. Any bytes are numbers.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // There are more, NGROUPS_MAX (65,536) at most, and their number does not change any more.
            Err(Errno::ERANGE) if count > room => groups.resize(count, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::getgroups;

    use super::*;

    #[test]
    fn the_groups_are_those_of_who_has_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own: Vec<u32> =
            getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        assert_eq!(peer_groups(&one).unwrap(), own);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer_groups(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}
