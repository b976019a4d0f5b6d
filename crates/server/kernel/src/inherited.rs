//! What a process inherits from its parent, and what is done about that: a container is to find the same as under a
//! runtime that somebody has called by hand.
//!
//! | inherited | server | shim | runtime and container |
//! |---|---|---|---|
//! | signal mask | empty | all blocked | empty |
//! | signal dispositions | its own, see `signals` | default, SIGPIPE ignored | default |
//! | soft RLIMIT_NOFILE | raised to the hard one | the one the server had | the same |
//! | other limits | kept | kept | kept: a unit's `LimitNPROC` is meant for them |
//! | oom_score_adj | kept | kept | the spec's; 0 if the spec has none |
//! | environment | kept | PATH | see the key `runtime_env` of the configuration |
//! | standard streams | kept | the link; /dev/null | the caller's paths |
//! | other descriptors | closed on exec | closed | closed on exec |
//! | working directory | kept, as paths may be relative to it | its process's directory | the runtime chooses |
//! | session, process group | kept | its own | its own |
//! | umask | kept | kept | kept: the runtime sets the spec's |
//! | niceness, scheduling, CPUs, I/O priority | kept | kept | kept: a unit may set them for all |
//! | uid, capabilities, securebits, no_new_privs, seccomp | kept | kept | the runtime sets the spec's; what the server lacks nobody can give |
//! | namespaces | kept | kept | the runtime makes the spec's |
//! | cgroup | kept | the server's | the runtime chooses |
//! | death signal of the parent | kept | none | of the runtime only, not of the container |
#![allow(unsafe_code, reason = "nix has no prlimit")]

use std::{
    fs, ptr,
    sync::{LazyLock, OnceLock},
};

use nix::{
    errno::Errno,
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// The soft limit of open files that the server was started with, and the hard one.
static FILE_LIMIT: OnceLock<(u64, u64)> = OnceLock::new();

/// See proc(5).
static OOM_SCORE_ADJ: LazyLock<i32> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
});

/// Raises the soft limit of open files to the hard one: a container takes a few descriptors, and the soft limit
/// is often 1024.
pub fn raise_file_limit() -> nix::Result<()> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?;
    let (_, hard) = *FILE_LIMIT.get_or_init(|| limit);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// Gives a child the limit of open files that the server was started with. Programs that close
/// every descriptor up to the limit, or use select(2), do not work well with a high one.
pub fn restore_file_limit(child: u32) -> nix::Result<()> {
    let Some((soft, hard)) = FILE_LIMIT.get().copied() else { return Ok(()) };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is valid, and the old one is not asked for.
    let result = unsafe {
        libc::prlimit(child.cast_signed(), libc::RLIMIT_NOFILE, &raw const limit, ptr::null_mut())
    };
    Errno::result(result).map(drop)
}

/// The `oom_score_adj` that a process is to get, unless it is the server's, which the process inherits. Without
/// one in its spec that is 0: a unit may give the server one with which the kernel kills all others
/// first. Some runtimes set the spec's for a container's first process only.
pub fn oom_score_adj(of_spec: Option<i32>) -> Option<i32> {
    to_be_set(*OOM_SCORE_ADJ, of_spec)
}

/// The `oom_score_adj` that a living process was given, which is not the server's own.
pub fn given_oom_score_adj(pid: u32) -> Option<i32> {
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
    score.trim().parse().ok().filter(|score| *score != *OOM_SCORE_ADJ)
}

fn to_be_set(of_server: i32, of_spec: Option<i32>) -> Option<i32> {
    Some(of_spec.unwrap_or(0)).filter(|score| *score != of_server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_or_none() {
        assert_eq!(to_be_set(-999, None), Some(0));
        assert_eq!(to_be_set(-999, Some(500)), Some(500));
        assert_eq!(to_be_set(-999, Some(-999)), None);
        assert_eq!(to_be_set(0, None), None);
    }
}
