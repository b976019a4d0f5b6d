//! Cgroups of containers that have ended, in which others still are.

use gantry_disk::MayWait;
use gantry_domain::Generation;
use gantry_kernel::cgroup::Cgroup;

use super::{
    StateDir, StateError,
    file::{read_json, write_json},
};

const FILE: &str = "left_cgroups.json";

impl StateDir {
    /// Those that the last server has noted. A damaged file is moved to quarantine/, which is logged.
    pub fn left_cgroups(&self, wait: &MayWait) -> Result<Vec<Cgroup>, StateError> {
        let path = self.root.join(FILE);
        match read_json(&path) {
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error @ StateError::Damaged { .. }) => {
                tracing::error!(%error, "the list of cgroups that others use is lost; they stay");
                self.quarantine(&path, Generation(0), wait).map(|_| Vec::new())
            }
            other => other,
        }
    }

    pub(crate) fn note_left_cgroups(
        &self,
        cgroups: &[Cgroup],
        _: &MayWait,
    ) -> Result<(), StateError> {
        write_json(&self.root.join(FILE), &cgroups, self.access.sync)
    }
}
