//! Cgroups of ended containers that others still use. The last user's teardown removes them, also under a
//! later server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gantry_kernel::cgroup::Cgroup;

use crate::state_dir::{StateDir, StateError};

/// The cgroups that are left, in memory and in the state directory.
#[derive(Debug, Default)]
pub(crate) struct LeftCgroups(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cgroups: Vec<Cgroup>,
    /// Not all of this is on disk: there was no room, say.
    unwritten: bool,
}

impl LeftCgroups {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is left out is written with the next change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads those that an earlier server has left. An error is one of the moment.
    pub(crate) fn read(&self, state: &StateDir) -> Result<(), StateError> {
        match state.left_cgroups() {
            Ok(cgroups) => self.lock().cgroups = cgroups,
            Err(error) if error.is_scarce() => return Err(error),
            Err(error) => tracing::error!(%error, "cgroups that others were in are forgotten"),
        }
        Ok(())
    }

    pub(crate) fn add(&self, cgroup: &Cgroup, state: &StateDir) {
        let mut left = self.lock();
        if !left.cgroups.contains(cgroup) {
            left.cgroups.push(cgroup.clone());
            left.unwritten = true;
        }
        left.write(state);
    }

    /// Removes those that nobody is in any more.
    pub(crate) fn sweep(&self, state: &StateDir) {
        let is_used = |cgroup: &Cgroup| cgroup.pids().map_or(true, |pids| !pids.is_empty());
        let mut left = self.lock();
        let before = left.cgroups.len();
        left.cgroups.retain(|cgroup| is_used(cgroup) || cgroup.remove().is_err());
        left.unwritten |= left.cgroups.len() != before;
        left.write(state);
    }
}

impl Inner {
    /// A failed write is repeated at the next change or sweep.
    fn write(&mut self, state: &StateDir) {
        if self.unwritten {
            match state.note_left_cgroups(&self.cgroups) {
                Ok(()) => self.unwritten = false,
                Err(error) => tracing::warn!(
                    %error,
                    "a restart now would forget cgroups that others are still in",
                ),
            }
        }
    }
}
