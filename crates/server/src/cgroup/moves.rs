//! Has the kernel get ready for a move between cgroups while the runtime that will make it starts.
//!
//! Every fork and exit takes a lock (`cgroup_threadgroup_rwsem`, kernel/cgroup/cgroup.c) that costs
//! it next to nothing as long as nobody moves a process to another cgroup. The first move after a
//! while must wait until every processor knows that it is different now, for an RCU grace period
//! (`rcu_sync_enter`): 7 to 16 ms where there is nothing else to do. Moves that follow within some
//! 15 ms need not wait. A runtime makes its first one 3 to 10 ms after its start, and so much of the
//! wait is over by then if it was begun with the start.
//!
//! On v1 only. On v2 a runtime can start a process in its cgroup without any move
//! (CLONE_INTO_CGROUP), and would then wait for this one.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    CgroupError, Hierarchies,
    file::{self, Reader},
    hierarchy::OWN,
};

/// For so long after a move that was expected, the kernel is ready for another: with something to
/// spare, as the time is that of a grace period.
const READY: Duration = Duration::from_millis(8);

/// The moves that runtimes are about to make.
#[derive(Debug)]
pub(crate) struct Moves {
    hierarchies: Arc<Hierarchies>,
    last: Mutex<Option<Instant>>,
}

impl Moves {
    pub(crate) fn new(hierarchies: Arc<Hierarchies>) -> Self {
        Self { hierarchies, last: Mutex::default() }
    }

    /// To be called before a runtime is. Does not wait.
    pub(crate) fn expect(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = last.replace(Instant::now());
        if previous.is_some_and(|previous| previous.elapsed() < READY) {
            return;
        }
        let hierarchies = Arc::clone(&self.hierarchies);
        tokio::task::spawn_blocking(move || {
            // The runtime waits itself then, as without us.
            if let Err(error) = move_to_own_cgroup(&hierarchies) {
                tracing::debug!(%error, "cannot prepare a move between cgroups");
            }
        });
    }
}

/// Moves the server to the cgroup that it is in already: nothing changes, but the kernel only finds
/// out once it has the lock. Where the server is, is read anew each time; it can have been moved.
fn move_to_own_cgroup(hierarchies: &Hierarchies) -> Result<(), CgroupError> {
    let mut reader = Reader::new();
    let own = reader.read(Path::new(OWN))?;
    match hierarchies.own_v1(own) {
        Some(dir) => file::write(&dir.join("cgroup.procs"), "0"),
        None => Ok(()),
    }
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
        move_to_own_cgroup(&Hierarchies::discover().unwrap()).unwrap();
        assert_eq!(own(), before);
    }
}
