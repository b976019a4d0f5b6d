//! The calls that the compiler cannot check.
#![allow(unsafe_code, reason = "signal sets, inherited descriptors and code between fork and exec")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::launch::Image;

/// The shim's end of the first connection. To be called once.
pub(crate) fn take_link() -> OwnedFd {
    // SAFETY: the descriptor was made for the shim, and nothing else in it owns it.
    unsafe { OwnedFd::from_raw_fd(gantry_shim_proto::LINK_FD) }
}

/// Closes what the server should not have passed on: its listening sockets, for one, would stay
/// open for as long as the shim lives. To be called before the shim opens anything.
pub(crate) fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    const FLAGS: libc::c_uint = 0;
    // SAFETY: nothing owns a descriptor above the standard ones yet. Before Linux 5.9 it fails.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, FLAGS) };
}

/// Sets every signal to its default: a disposition of "ignore" would go through the runtime into
/// the container. The server may have one from its own parent (nohup, `&` of a shell), and glibc's
/// posix_spawn ignores signals 32 and 33 in the child; its `signal` refuses to touch these two.
pub(crate) fn reset_dispositions() {
    // The kernel's struct sigaction: SIG_DFL, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = 8;
    for signal in 1..=64 {
        // std ignores SIGPIPE here and restores it in its children; the shim needs it ignored.
        if signal != libc::SIGPIPE {
            let (new, old) = (DEFAULT.as_ptr(), std::ptr::null_mut::<u64>());
            // SAFETY: no handler is installed. Fails for SIGKILL and SIGSTOP, as it should.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, MASK_SIZE) };
        }
    }
}

/// Blocks every signal that can be blocked and returns a signalfd for SIGCHLD. The others stay
/// pending for ever: a stray SIGTERM must not lose an exit.
pub(crate) fn block_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid for writes.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: both pointers are valid, and the set is initialised by the call above.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) })?;
    // SAFETY: the pointer is valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised by the call above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is initialised.
    let fd = check(unsafe { libc::signalfd(-1, set.as_ptr(), flags) })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the command's process execute `image`, whatever program the command names: std would go by
/// execvp(3), which runs what the kernel cannot execute as a shell script. The process has an empty
/// signal mask, as it would go on into the container (std resets SIGPIPE but not the mask), and the
/// kernel kills it when the shim dies, since nobody would wait for it any more.
pub(crate) fn become_runtime(command: &mut Command, image: Image) {
    let (argv, env) = (Pointers::new(image.argv), Pointers::new(image.env));
    let execute = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is valid for writes.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: both pointers are valid, and the set is initialised by the call above.
        check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) })?;
        // SAFETY: both arrays are of C strings that live on, and end with a null pointer.
        unsafe { libc::execve(argv.first(), argv.as_ptr(), env.as_ptr()) };
        Err(io::Error::last_os_error())
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(execute) };
}

/// C strings as execve(2) takes them: an array of pointers with a null pointer at its end.
struct Pointers {
    pointers: Vec<*const libc::c_char>,
    /// What they point to.
    _strings: Vec<CString>,
}

// SAFETY: the pointers are to what the same value owns, and nothing changes either.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }

    fn first(&self) -> *const libc::c_char {
        self.pointers[0]
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
