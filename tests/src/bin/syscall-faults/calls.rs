//! The system calls that are failed, and with what.

use nix::libc::{self, user_regs_struct};

/// A call that is about to be made.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) object: Object,
    errnos: Errnos,
}

/// What a call is about, as its arguments say.
#[derive(Clone, Copy)]
pub(crate) enum Object {
    Nothing,
    /// The address of a path.
    Path(u64),
    /// A directory's descriptor, and the address of a path below it.
    PathAt(u64, u64),
    Descriptor(u64),
    /// The address of a program's path.
    Program(u64),
}

/// The names of errors.
type Errnos = &'static [&'static str];

const CREATION: Errnos = &["EMFILE", "ENOSPC", "ENFILE"];
const WATCHES: Errnos = &["ENOSPC", "ENOMEM"];
const BACKLOG: Errnos = &["ENOMEM", "EAGAIN"];
const BUFFERS: Errnos = &["ENOBUFS"];
const LOCKS: Errnos = &["ENOLCK"];
const SCARCE: Errnos = &["EMFILE", "ENFILE"];
const FULL: Errnos = &["ENOSPC", "EIO"];
const BROKEN: Errnos = &["EIO"];
const MEMORY: Errnos = &["ENOMEM"];
const INTERRUPTED: Errnos = &["EINTR"];
const TASKS: Errnos = &["EAGAIN", "ENOMEM"];

impl Call {
    /// `None` if it is none that is failed.
    pub(crate) fn of(registers: &user_regs_struct) -> Option<Self> {
        use Object::*;
        let user_regs_struct { rdi, rsi, rdx, .. } = *registers;
        let (name, object, errnos) = match registers.orig_rax.cast_signed() {
            libc::SYS_openat if rdx & flag(libc::O_CREAT) != 0 => {
                ("openat", PathAt(rdi, rsi), CREATION)
            }
            libc::SYS_openat => ("openat", PathAt(rdi, rsi), SCARCE),
            libc::SYS_open => ("open", Path(rdi), SCARCE),
            libc::SYS_socket => ("socket", Nothing, SCARCE),
            libc::SYS_socketpair => ("socketpair", Nothing, SCARCE),
            libc::SYS_accept4 => ("accept4", Descriptor(rdi), SCARCE),
            libc::SYS_eventfd2 => ("eventfd2", Nothing, SCARCE),
            libc::SYS_epoll_create1 => ("epoll_create1", Nothing, SCARCE),
            libc::SYS_pipe2 => ("pipe2", Nothing, SCARCE),
            libc::SYS_memfd_create => ("memfd_create", Nothing, SCARCE),
            libc::SYS_pidfd_open => ("pidfd_open", Nothing, SCARCE),
            libc::SYS_inotify_init1 => ("inotify_init1", Nothing, SCARCE),
            libc::SYS_timerfd_create => ("timerfd_create", Nothing, SCARCE),
            libc::SYS_signalfd4 => ("signalfd4", Nothing, SCARCE),
            libc::SYS_dup => ("dup", Descriptor(rdi), SCARCE),
            libc::SYS_fcntl if is_duplication(rsi) => ("fcntl", Descriptor(rdi), SCARCE),
            // There is a limit to what a user may watch.
            libc::SYS_inotify_add_watch => ("inotify_add_watch", Path(rsi), WATCHES),
            libc::SYS_epoll_ctl if rsi == flag(libc::EPOLL_CTL_ADD) => {
                ("epoll_ctl", Descriptor(rdx), WATCHES)
            }
            libc::SYS_clone => ("clone", Nothing, TASKS),
            libc::SYS_clone3 => ("clone3", Nothing, TASKS),
            libc::SYS_fork => ("fork", Nothing, TASKS),
            libc::SYS_vfork => ("vfork", Nothing, TASKS),
            libc::SYS_execve => ("execve", Program(rdi), TASKS),
            libc::SYS_connect => ("connect", Nothing, BACKLOG),
            libc::SYS_bind => ("bind", Nothing, MEMORY),
            // One byte is what tokio's signal handler sends to a worker. A signal that is lost there
            // is seen with the next one only, and tokio is not ours to mend.
            libc::SYS_sendto if rdx == 1 => return None,
            libc::SYS_sendto => ("sendto", Descriptor(rdi), BUFFERS),
            libc::SYS_sendmsg => ("sendmsg", Descriptor(rdi), BUFFERS),
            libc::SYS_recvfrom => ("recvfrom", Descriptor(rdi), MEMORY),
            libc::SYS_recvmsg => ("recvmsg", Descriptor(rdi), MEMORY),
            // Only where a call can wait does the kernel ever answer so. Those that SA_RESTART
            // restarts are left out: every handler of ours has that flag.
            libc::SYS_epoll_wait => ("epoll_wait", Nothing, INTERRUPTED),
            libc::SYS_epoll_pwait => ("epoll_pwait", Nothing, INTERRUPTED),
            libc::SYS_epoll_pwait2 => ("epoll_pwait2", Nothing, INTERRUPTED),
            libc::SYS_poll => ("poll", Nothing, INTERRUPTED),
            libc::SYS_ppoll => ("ppoll", Nothing, INTERRUPTED),
            libc::SYS_write => ("write", Descriptor(rdi), FULL),
            libc::SYS_pwrite64 => ("pwrite64", Descriptor(rdi), FULL),
            libc::SYS_writev => ("writev", Descriptor(rdi), FULL),
            libc::SYS_ftruncate => ("ftruncate", Descriptor(rdi), BROKEN),
            libc::SYS_fallocate => ("fallocate", Descriptor(rdi), FULL),
            libc::SYS_fsync => ("fsync", Descriptor(rdi), FULL),
            libc::SYS_fdatasync => ("fdatasync", Descriptor(rdi), FULL),
            libc::SYS_read => ("read", Descriptor(rdi), BROKEN),
            libc::SYS_pread64 => ("pread64", Descriptor(rdi), BROKEN),
            libc::SYS_getdents64 => ("getdents64", Descriptor(rdi), BROKEN),
            // To unlock cannot fail.
            libc::SYS_flock if rsi & flag(libc::LOCK_UN) == 0 => ("flock", Descriptor(rdi), LOCKS),
            libc::SYS_rename => ("rename", Path(rdi), FULL),
            libc::SYS_renameat2 => ("renameat2", PathAt(rdi, rsi), FULL),
            libc::SYS_mkdir => ("mkdir", Path(rdi), FULL),
            libc::SYS_mkdirat => ("mkdirat", PathAt(rdi, rsi), FULL),
            libc::SYS_rmdir => ("rmdir", Path(rdi), BROKEN),
            libc::SYS_unlink => ("unlink", Path(rdi), BROKEN),
            libc::SYS_unlinkat => ("unlinkat", PathAt(rdi, rsi), BROKEN),
            libc::SYS_chmod => ("chmod", Path(rdi), BROKEN),
            libc::SYS_readlink => ("readlink", Path(rdi), MEMORY),
            libc::SYS_readlinkat => ("readlinkat", PathAt(rdi, rsi), MEMORY),
            libc::SYS_stat => ("stat", Path(rdi), MEMORY),
            libc::SYS_lstat => ("lstat", Path(rdi), MEMORY),
            libc::SYS_newfstatat => ("newfstatat", PathAt(rdi, rsi), MEMORY),
            libc::SYS_statx => ("statx", PathAt(rdi, rsi), MEMORY),
            libc::SYS_access => ("access", Path(rdi), MEMORY),
            libc::SYS_chdir => ("chdir", Path(rdi), MEMORY),
            _ => return None,
        };
        Some(Self { name, object, errnos })
    }

    /// What it can fail with, given the name of what it is about; nothing where the kernel's own
    /// answer would not be one of them.
    pub(crate) fn errnos(&self, what: &str) -> Errnos {
        let is_file = what.starts_with(['/', '{']);
        match self.name {
            // Libraries and locales before main, which would say that they are missing.
            "openat" | "read" | "pread64" | "newfstatat" | "access" if is_system(what) => &[],
            "write" | "writev" if what.starts_with("socket:") => BUFFERS,
            // Eventfds, and the log when it is a pipe.
            "write" | "writev" | "read" | "pread64" if !is_file => &[],
            "write" if what.starts_with("/proc/") || what.starts_with("/sys/") => MEMORY,
            "read" if what.starts_with("/proc/") || what.starts_with("/sys/") => MEMORY,
            _ => self.errnos,
        }
    }
}

/// Arguments of the kernel are the lower half of a register.
fn flag(flag: i32) -> u64 {
    flag.cast_unsigned().into()
}

fn is_duplication(command: u64) -> bool {
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].map(flag).contains(&command)
}

fn is_system(path: &str) -> bool {
    ["/lib", "/usr/", "/etc/ld.so", "/proc/#/maps", "/proc/self/maps"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}
