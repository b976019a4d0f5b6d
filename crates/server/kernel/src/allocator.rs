//! Returns freed memory to the system.
//!
//! The C library keeps what is freed for later allocations, and cannot return it while something at a higher
//! address is in use: after a flood of requests, hundreds of megabytes. So large allocations are mapped each by
//! itself, and when load has fallen a thread has the library return the rest.

use std::{
    fs, io,
    sync::OnceLock,
    thread::{self, Thread},
    time::Duration,
};

use nix::libc;

/// An allocation of this many bytes or more is mapped by itself, and returned when it is freed. If this is not set,
/// the library raises its threshold up to 32 MiB as such allocations are freed.
const MAPPED: libc::c_int = 256 << 10;

/// Threads have this many heaps together, instead of eight for each processor: each keeps some.
const HEAPS: libc::c_int = 4;

/// How long load must have been low before memory is returned, so that not every few calls are followed by that.
const LULL: Duration = Duration::from_secs(2);

/// Resident bytes that nobody uses. Programs and stacks are a few megabytes of them at any time.
const WASTE: usize = 16 << 20;

static KEEPER: OnceLock<Thread> = OnceLock::new();

/// Sets the library's parameters, and starts the thread. To be called before there are other threads.
pub fn keep_memory_small() -> io::Result<()> {
    tune();
    let keeper = thread::Builder::new().name("memory".to_owned()).spawn(|| {
        loop {
            thread::park();
            thread::sleep(LULL);
            if wasted().is_some_and(|bytes| bytes > WASTE) {
                give_back();
            }
        }
    })?;
    // It is set once, as this is called once.
    let _ = KEEPER.set(keeper.thread().clone());
    Ok(())
}

/// To be called when something has ended that may have had much memory.
pub fn load_has_fallen() {
    if let Some(keeper) = KEEPER.get() {
        keeper.unpark();
    }
}

/// Resident memory that is not in use, as far as the library knows.
fn wasted() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some((pages * page_size()).saturating_sub(in_use()))
}

fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "nobody else offers them")]
mod glibc {
    use super::{HEAPS, MAPPED, libc};

    pub(crate) fn tune() {
        // SAFETY: sets a number; refused ones change nothing.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    }

    pub(crate) fn in_use() -> usize {
        // SAFETY: only reads, under the library's own locks.
        let info = unsafe { libc::mallinfo2() };
        info.uordblks + info.hblkhd
    }

    pub(crate) fn give_back() {
        // SAFETY: may be called at any time by any thread; what is in use stays.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(target_env = "gnu")]
use glibc::{give_back, in_use, tune};

/// Other C libraries have no such parameters.
#[cfg(not(target_env = "gnu"))]
fn tune() {}

#[cfg(not(target_env = "gnu"))]
fn in_use() -> usize {
    usize::MAX
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
