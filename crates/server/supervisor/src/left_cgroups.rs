//! Cgroups of ended containers that others still use. The last user's teardown removes them, also under a
//! later server.

use gantry_kernel::cgroup::Cgroup;
use tokio::sync::Mutex;

use crate::state_dir::{StateDir, StateError};

/// The cgroups that are left, in memory and in the state directory. The lock is held while the file is written.
#[derive(Debug, Default)]
pub(crate) struct LeftCgroups(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cgroups: Vec<Cgroup>,
    /// Not all of these are on disk: there was no room, say.
    unwritten: bool,
}

impl LeftCgroups {
    /// Reads those that an earlier server has left. An error is temporary.
    pub(crate) async fn read(&self, state: &StateDir) -> Result<(), StateError> {
        let mut left = self.0.lock().await;
        match state.run(StateDir::left_cgroups).await {
            Ok(cgroups) => left.cgroups = cgroups,
            Err(error) if error.is_scarce() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "the list of cgroups that others use is lost; they stay");
            }
        }
        Ok(())
    }

    pub(crate) async fn add(&self, cgroup: &Cgroup, state: &StateDir) {
        let mut left = self.0.lock().await;
        if !left.cgroups.contains(cgroup) {
            left.cgroups.push(cgroup.clone());
            left.unwritten = true;
        }
        left.write(state).await;
    }

    /// Removes those that nobody is in any more.
    pub(crate) async fn sweep(&self, state: &StateDir) {
        let is_used = |cgroup: &Cgroup| cgroup.pids().map_or(true, |pids| !pids.is_empty());
        let mut left = self.0.lock().await;
        let before = left.cgroups.len();
        left.cgroups.retain(|cgroup| is_used(cgroup) || cgroup.remove().is_err());
        left.unwritten |= left.cgroups.len() != before;
        left.write(state).await;
    }
}

impl Inner {
    /// A failed write is repeated at the next change or sweep.
    async fn write(&mut self, state: &StateDir) {
        if self.unwritten {
            let cgroups = self.cgroups.clone();
            match state.run(move |state, wait| state.note_left_cgroups(&cgroups, wait)).await {
                Ok(()) => self.unwritten = false,
                Err(error) => tracing::warn!(
                    %error,
                    "after a restart now, cgroups that others still use would not be removed",
                ),
            }
        }
    }
}
