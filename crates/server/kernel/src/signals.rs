//! The server's signal dispositions, whatever it inherited from its parent.
#![allow(unsafe_code, reason = "nix refuses the signals that the C library keeps for itself")]

use std::ptr;

use nix::{
    libc,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
};

/// Signals that keep their default: those that stop and continue a process, those that report an
/// error in the program itself, and those that are meant to end it. SIGINT and SIGTERM get a
/// handler of tokio's later, as does SIGCHLD.
const DEFAULT: [i32; 15] = [
    libc::SIGABRT,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGSYS,
    libc::SIGTERM,
    libc::SIGTRAP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Signals with handlers of the standard library, which report stack overflows; and
/// those whose disposition cannot be changed.
const UNTOUCHED: [i32; 4] = [libc::SIGBUS, libc::SIGKILL, libc::SIGSEGV, libc::SIGSTOP];

/// Gives each signal the disposition that the server wants, and blocks none. A parent may have
/// left SIGCHLD ignored, so that no exit would be seen, or SIGTERM blocked, so that nothing but
/// SIGKILL could stop the server. All other signals, which people send to other programs and which would
/// end this one, are ignored. To be called before there are threads: they
/// inherit the mask.
pub fn reset_signals() {
    for signal in (1..=64).filter(|signal| !UNTOUCHED.contains(signal)) {
        let handler = if DEFAULT.contains(&signal) { libc::SIG_DFL } else { libc::SIG_IGN };
        set_disposition(signal, handler);
    }
    // Can fail only for wrong arguments.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// `handler` is SIG_DFL or SIG_IGN. Fails for SIGKILL and SIGSTOP, and for numbers that are none.
/// Makes a system call and nothing else, so that a child that shares the server's memory may.
pub(crate) fn set_disposition(signal: i32, handler: libc::sighandler_t) {
    /// The kernel's struct sigaction: the handler, flags, a function to return with, and a mask.
    type Action = [libc::sighandler_t; 4];
    const MASK_SIZE: usize = 8;
    let action: Action = [handler, 0, 0, 0];
    let (new, old) = (action.as_ptr(), ptr::null_mut::<Action>());
    // SAFETY: the new action is valid, and none of ours is to be called.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, MASK_SIZE) };
}
