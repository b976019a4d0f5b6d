//! Mounts that nobody else sees, and that cannot outlive the thread that made them.

use std::thread;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::MountProblem;

/// The stack of the thread: a walk through a thousand directories in each other has room.
const STACK: usize = 8 << 20;

/// Does work on a new thread with a mount namespace of its own: what it mounts is seen by that thread and those that it
/// starts, and is gone with them, even if the process is killed. What others unmount meanwhile is unmounted
/// there, too, if its mount is shared, as a rule of hosts with systemd; otherwise it stays mounted there until the work
/// has ended.
///
/// # Errors
/// If there can be no such thread.
pub fn in_private<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, MountProblem> {
    let begin = || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(MountProblem::of("unshare"))?;
        let receive_only = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, receive_only, None::<&str>)
            .map_err(MountProblem::of("set the propagation"))?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, begin);
        let thread = thread.map_err(MountProblem::of("start a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
