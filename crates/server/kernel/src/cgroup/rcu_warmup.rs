//! Hides the RCU grace period of a runtime's first cgroup move behind the runtime's start.
//!
//! Every fork and exit takes a lock (`cgroup_threadgroup_rwsem`, kernel/cgroup/cgroup.c) that costs
//! it next to nothing as long as nobody moves a process to another cgroup. The first move after a
//! while must wait until every processor knows that it is different now, for an RCU grace period
//! (`rcu_sync_enter`, since Linux 6.0 and without the mount option `favordynmods`): 7 to 16 ms where
//! there is nothing else to do. Moves that follow within some 15 ms need not wait. A runtime makes
//! its first one 3 to 10 ms after its start, and so much of the wait is over by then if it was begun
//! with the start. It is under `cgroup_mutex`, so that cgroups are neither made nor removed
//! meanwhile, as during the runtime's own wait.
//!
//! On v1 only. On v2 a runtime can start a process in its cgroup without any move
//! (CLONE_INTO_CGROUP), and would then wait for this one.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::gettid;

use super::{
    CgroupError, Hierarchies,
    file::{self, Reader},
    hierarchy::OWN,
};

/// How long after a move the next need not wait: a grace period, less a margin.
const READY: Duration = Duration::from_millis(8);

/// Moves that runtimes are about to make.
#[derive(Debug, Clone)]
pub struct RcuWarmup {
    hierarchies: Arc<Hierarchies>,
    kernel: Arc<Mutex<Kernel>>,
}

/// Whether the kernel is known to be ready for a move.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Unknown,
    GettingReady,
    ReadyAt(Instant),
}

impl RcuWarmup {
    /// For the cgroups of these hierarchies.
    pub fn new(hierarchies: Arc<Hierarchies>) -> Self {
        Self { hierarchies, kernel: Arc::new(Mutex::new(Kernel::Unknown)) }
    }

    /// To be called before a runtime is started. Does not wait, and ignores failures: the runtime then waits itself.
    pub fn prepare(&self) {
        let mut kernel = self.kernel();
        match *kernel {
            Kernel::GettingReady => return,
            Kernel::ReadyAt(time) if time.elapsed() < READY => return,
            Kernel::Unknown | Kernel::ReadyAt(_) => {}
        }
        // A thread that ends with it, see `move_nowhere`.
        let moves = self.clone();
        let started = thread::Builder::new().name("moves".to_owned()).spawn(move || {
            let moved = move_nowhere(&moves.hierarchies);
            *moves.kernel() = Kernel::ReadyAt(Instant::now());
            if let Err(error) = moved {
                tracing::debug!(%error, "cannot prepare a move between cgroups");
            }
        });
        match started {
            Ok(_) => *kernel = Kernel::GettingReady,
            Err(error) => tracing::debug!(%error, "cannot prepare a move between cgroups"),
        }
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the calling thread to its own cgroup: a no-op, but the kernel takes the lock before it sees that.
/// Not the whole server: that could undo a concurrent move of the server to another cgroup.
fn move_nowhere(hierarchies: &Hierarchies) -> Result<(), CgroupError> {
    let mut reader = Reader::default();
    let own = reader.read(Path::new(OWN))?;
    let Some(dir) = hierarchies.own_v1(own) else {
        let cause = io::Error::from(io::ErrorKind::Unsupported);
        return Err(CgroupError::io("find in v1", Path::new(OWN), cause));
    };
    file::write(&dir.join("tasks"), &gettid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::TestCgroup;

    #[test]
    fn the_server_stays_where_it_is() {
        let Some(_allowed) = TestCgroup::new("moves") else { return };
        let own = || std::fs::read_to_string(OWN).unwrap();
        let before = own();
        let hierarchies = Hierarchies::discover().unwrap();
        match hierarchies.own_v1(&before) {
            Some(_) => move_nowhere(&hierarchies).unwrap(),
            None => assert!(move_nowhere(&hierarchies).is_err()),
        }
        assert_eq!(own(), before);
    }

    #[test]
    fn the_kernel_is_not_asked_twice() {
        let moves = RcuWarmup::new(Arc::default());
        *moves.kernel() = Kernel::GettingReady;
        moves.prepare();
        assert!(matches!(*moves.kernel(), Kernel::GettingReady));
        let now = Instant::now();
        *moves.kernel() = Kernel::ReadyAt(now);
        moves.prepare();
        assert!(matches!(*moves.kernel(), Kernel::ReadyAt(time) if time == now));
    }
}
