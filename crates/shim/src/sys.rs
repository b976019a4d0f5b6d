//! The system calls that need `unsafe`.
#![allow(unsafe_code, reason = "signal sets, inherited descriptors and code between fork and exec")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{
    PrctlMmMap, Signal, configure_virtual_memory_map, set_parent_process_death_signal,
};

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

/// Has the command's process execute `image`, see [`execute`], in `directory` unless that is empty or cannot be entered, and
/// has the kernel kill it when the shim dies, since nobody would wait for it any more.
pub(crate) fn become_runtime(
    command: &mut Command,
    image: Image,
    oom_score_adj: String,
    directory: CString,
) {
    let execute = execute(image);
    let become_runtime = move || {
        if !oom_score_adj.is_empty() {
            // Lowering it needs a privilege, which the server may lack.
            let _ = set_oom_score(oom_score_adj.as_bytes());
        }
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if !directory.is_empty() {
            // The runtime itself says what is wrong with a bundle.
            let _ = rustix::process::chdir(&directory);
        }
        execute()
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(become_runtime) };
}

/// Has the command's process execute `image`, see [`execute`], with these descriptors from `first` on. Those
/// numbers must not be in use by the command itself, nor be the numbers of `fds`.
pub(crate) fn become_logger(command: &mut Command, image: Image, first: RawFd, fds: [OwnedFd; 3]) {
    let execute = execute(image);
    let become_logger = move || {
        for (fd, number) in fds.iter().zip(first..) {
            // SAFETY: it replaces a descriptor of a process that is about to execute a program, and that
            // nothing in it uses until then.
            check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
        }
        execute()
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(become_logger) };
}

/// Executes `image`, its copy if the kernel does that, whatever program the command names: std would go by execvp(3), which runs what the
/// kernel cannot execute as a shell script. The process has an empty signal mask, as it would go on into
/// the container (std resets SIGPIPE but not the mask).
fn execute(image: Image) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
    let (argv, env, copy) = (Pointers::new(image.argv), Pointers::new(image.env), image.copy);
    move || {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is valid for writes.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: both pointers are valid, and the set is initialised by the call above.
        check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) })?;
        if let Some(copy) = &copy {
            let (execveat, copy) = (libc::SYS_execveat, copy.as_raw_fd());
            let (argv, env) = (argv.as_ptr(), env.as_ptr());
            // SAFETY: all arrays are of C strings that live on, and end with a null pointer.
            unsafe { libc::syscall(execveat, copy, c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH) };
        }
        // SAFETY: as above.
        unsafe { libc::execve(argv.first(), argv.as_ptr(), env.as_ptr()) };
        Err(io::Error::last_os_error())
    }
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

/// Where the kernel takes parts of the process to be: fields of /proc/self/stat, see proc(5).
pub(crate) struct MemoryMap(PrctlMmMap);

impl MemoryMap {
    pub(crate) fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let field = |number| -> Option<u64> { crate::launch::field(&stat, number)?.parse().ok() };
        Some(Self(PrctlMmMap {
            start_code: field(26)?,
            end_code: field(27)?,
            start_data: field(45)?,
            end_data: field(46)?,
            start_brk: field(47)?,
            brk: 0,
            start_stack: field(28)?,
            arg_start: field(48)?,
            arg_end: field(49)?,
            env_start: field(50)?,
            env_end: field(51)?,
            auxv: std::ptr::null_mut(),
            auxv_size: 0,
            exe_fd: -1,
        }))
    }

    /// Has the arguments end so many bytes after their start. Needs no privilege, but a kernel
    /// with CONFIG_CHECKPOINT_RESTORE.
    pub(crate) fn end_arguments_at(&mut self, length: usize) -> io::Result<()> {
        // SAFETY: with zero it changes nothing, and returns where the heap ends now.
        self.0.brk = unsafe { libc::syscall(libc::SYS_brk, 0) }.cast_unsigned();
        self.0.arg_end = self.0.arg_start + u64::try_from(length).unwrap_or_default();
        // SAFETY: all other values are the kernel's own; none of them makes memory readable or
        // writable, they only say what /proc shows.
        Ok(unsafe { configure_virtual_memory_map(&self.0) }?)
    }
}

/// The memory of the arguments, to be overwritten. To be called once, and no argument may be
/// read afterwards.
pub(crate) fn take_arguments(map: &MemoryMap) -> Option<&'static mut [u8]> {
    let length = usize::try_from(map.0.arg_end.checked_sub(map.0.arg_start)?).ok()?;
    let start = usize::try_from(map.0.arg_start).ok().filter(|start| *start > 0)?;
    let start = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the kernel has put that many bytes there for this process to read and write, and
    // nothing else here refers to them any more.
    Some(unsafe { std::slice::from_raw_parts_mut(start, length) })
}

/// Sets `oom_score_adj` of the calling process, see proc(5). Allocates nothing.
fn set_oom_score(score: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(CWD, c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, score).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
