//! Processes by descriptor, so that a recycled pid is never mistaken for the one that was meant.
#![allow(unsafe_code, reason = "nix has no pidfd calls")]

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use gantry_domain::ExitStatus;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::if_there;

/// A process, see pidfd_open(2).
#[derive(Debug)]
pub struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// The process that has the pid now; the caller makes sure that it is the one that is meant.
    pub fn open(pid: u32) -> io::Result<Self> {
        Self::from_fd(open(pid)?)
    }

    /// A pidfd that somebody else opened.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        crate::watch(fd, Interest::READABLE).map(Self)
    }

    /// See pidfd_send_signal(2); `ESRCH` if the process has ended and was reaped.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: no siginfo is passed, so no memory is touched.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until the process has ended; answers at once if it already has.
    pub async fn exited(&self) {
        // An error means that tokio's reactor is shutting down, and with it the server.
        let _ = self.0.readable().await;
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        has_ended(self.as_fd())
    }

    /// The inode of the descriptor: since Linux 6.9 unique to the process.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(nix::sys::stat::fstat(self.0.get_ref())?.st_ino)
    }

    /// How the process ended, if the kernel (6.15 or later) still knows: it does for a process
    /// that somebody else has reaped as long as a descriptor from before is open.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut info = PidFdInfo { mask: PIDFD_INFO_EXIT, ..PidFdInfo::default() };
        // SAFETY: the kernel writes at most the size that is encoded in the request, which is that
        // of the structure.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        (result == 0 && info.mask & PIDFD_INFO_EXIT != 0)
            .then(|| ExitStatus::from_wait_status(info.exit_code))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, first version (64 bytes).
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroup: u64,
    pids_and_ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFD_GET_INFO: libc::Ioctl = nix::request_code_readwrite!(0xff, 11, size_of::<PidFdInfo>());

fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
    let fd = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

/// Whether the process lives that had this pid, start time and inode of a pidfd, and not another one that has the pid
/// now. For any thread: unlike with [`PidFd::open`], nothing of it is watched.
pub fn still_lives(pid: u32, start_time: u64, inode: u64) -> io::Result<bool> {
    let Some(pidfd) = if_there(open(pid))? else { return Ok(false) };
    let is_same = nix::sys::stat::fstat(&pidfd)?.st_ino == inode
        && process_start_time(pid)? == Some(start_time);
    Ok(is_same && !has_ended(pidfd.as_fd()))
}

/// Field 22 of /proc/pid/stat: when the process started, in clock ticks after boot. `None` if there
/// is no such process.
pub fn process_start_time(pid: u32) -> io::Result<Option<u64>> {
    Ok(stat_field(pid, 22)?.and_then(|field| field.parse().ok()))
}

/// Whether there is such a process, and it has not ended. Zero is none. One that cannot be asked for
/// may live.
pub fn is_living(pid: u32) -> bool {
    let lives = |state: String| !["Z", "X"].contains(&state.as_str());
    stat_field(pid, 3).map_or(true, |state| state.is_some_and(lives))
}

/// Whether a process has begun to exit, or is gone: field 9 of /proc/pid/stat, PF_EXITING of
/// include/linux/sched.h. The first process of a pid namespace exits when all others have, and until
/// then nobody enters the namespace: fork(2) fails with ENOMEM, see pid_namespaces(7).
pub fn is_exiting(pid: u32) -> bool {
    const PF_EXITING: u64 = 0x4;
    let is_exiting = |flags: String| flags.parse().is_ok_and(|flags: u64| flags & PF_EXITING != 0);
    stat_field(pid, 9).is_ok_and(|flags| flags.is_none_or(is_exiting))
}

/// The parent of a process, unless it is outside of what the server can see.
pub fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4).ok().flatten()?.parse().ok().filter(|parent| *parent > 0)
}

/// Whether a process is a child of another, or of a child of that, and so on.
pub fn is_descendant(pid: u32, of: u32) -> bool {
    std::iter::successors(parent(pid), |pid| parent(*pid)).any(|parent| parent == of)
}

/// Whether a process is the first one of its pid namespace, so that the kernel ends all others with
/// it; `None` if it has gone. See NSpid in proc_pid_status(5).
pub fn is_namespace_init(pid: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(pids.split_ascii_whitespace().last() == Some("1"))
}

/// Field 52 of /proc/pid/stat: the wait status of a process that has ended and was not reaped;
/// `None` of any other.
pub fn zombie_status(pid: u32) -> io::Result<Option<ExitStatus>> {
    if stat_field(pid, 3)?.as_deref() != Some("Z") {
        return Ok(None);
    }
    let status = stat_field(pid, 52)?.and_then(|field| field.parse().ok());
    Ok(status.map(ExitStatus::from_wait_status))
}

/// A field of /proc/pid/stat from the third on, numbered as in proc(5). The second, the command,
/// may contain anything, also blanks and parentheses. `None` if there is no such process.
fn stat_field(pid: u32, number: usize) -> io::Result<Option<String>> {
    let Some(stat) = if_there(fs::read_to_string(format!("/proc/{pid}/stat")))? else {
        return Ok(None);
    };
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    Ok(fields.and_then(|fields| fields.split_ascii_whitespace().nth(number - 3)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_kernels_first_size() {
        assert_eq!(size_of::<PidFdInfo>(), 64);
    }

    #[tokio::test]
    async fn an_ended_child_is_seen() {
        #[allow(clippy::disallowed_methods)]
        let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = child.id();
        let pidfd = PidFd::open(pid).unwrap();
        let (started, inode) = (process_start_time(pid).unwrap().unwrap(), pidfd.inode().unwrap());
        assert!(!still_lives(pid, started + 1, inode).unwrap());
        assert!(!still_lives(pid, started, inode + 1).unwrap());
        assert!(is_descendant(pid, std::process::id()) && !is_descendant(1, pid));
        assert_eq!(is_namespace_init(pid), Some(false));
        assert_eq!(is_namespace_init(1), Some(true));
        pidfd.exited().await;
        assert!(pidfd.has_ended() && !still_lives(pid, started, inode).unwrap());
        let own = std::process::id();
        let inode = PidFd::open(own).unwrap().inode().unwrap();
        assert!(still_lives(own, process_start_time(own).unwrap().unwrap(), inode).unwrap());
        assert_eq!(zombie_status(pid).unwrap(), Some(ExitStatus::Code(7)));
        assert!(!is_living(pid) && !is_living(0) && is_living(std::process::id()));
        assert!(is_exiting(pid) && !is_exiting(std::process::id()));
        child.wait().unwrap();
        assert_eq!(zombie_status(pid).unwrap(), None);
        assert_eq!(process_start_time(pid).unwrap(), None);
        assert!(is_exiting(pid));
        assert_eq!(pidfd.send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        // Kernels before 6.15 do not report it.
        assert!(matches!(pidfd.exit_status(), None | Some(ExitStatus::Code(7))));
    }
}
