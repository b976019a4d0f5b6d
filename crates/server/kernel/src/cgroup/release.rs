//! Lets processes die that were sent SIGKILL while they were frozen.
//!
//! On v2 SIGKILL takes effect in a frozen cgroup. On v1 the process dies only once it is thawed, whoever
//! froze it. A parent of the container's cgroup is never thawed: it is not ours.

use std::path::{Path, PathBuf};

use super::{
    Cgroup, CgroupError, Hierarchies,
    error::present,
    file::{Reader, write},
};

const FREEZER: &str = "freezer";

impl Cgroup {
    /// Lets the first process of the container die, and all others with it.
    pub fn release_all(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.v1.get(FREEZER) else { return Ok(()) };
        present(self.thaw_all())?;
        match frozen_around(dir)? {
            Some(path) => Err(CgroupError::FrozenAround { path }),
            None => Ok(()),
        }
    }

    /// Lets one process of the container die while the others stay frozen: it is moved to the cgroup
    /// around the container's, in the hierarchy that freezes. The caller has seen that the process
    /// lives: frozen, it keeps its pid.
    pub fn release(&self, hierarchies: &Hierarchies, pid: u32) -> Result<(), CgroupError> {
        let Some(around) = self.v1.get(FREEZER).and_then(|dir| dir.parent()) else { return Ok(()) };
        let own = match Self::of_process(hierarchies, pid) {
            Err(CgroupError::Gone { .. } | CgroupError::Shared { .. }) => return Ok(()),
            other => other?,
        };
        let Some(dir) = own.v1.get(FREEZER) else { return Ok(()) };
        if !is_frozen(dir)? {
            return Ok(());
        }
        match frozen_at_or_around(around)? {
            Some(path) => Err(CgroupError::FrozenAround { path }),
            None => present(write(&around.join("cgroup.procs"), &pid.to_string())).map(drop),
        }
    }
}

/// Whether a cgroup is frozen, on its own or with one around it.
fn is_frozen(dir: &Path) -> Result<bool, CgroupError> {
    let mut reader = Reader::default();
    // The root of the hierarchy has no such file and cannot be frozen.
    let state = reader.read_present(&dir.join("freezer.state"))?;
    Ok(state.is_some_and(|state| state.trim_ascii_end() != "THAWED"))
}

/// The cgroup around this one that keeps it frozen.
fn frozen_around(dir: &Path) -> Result<Option<PathBuf>, CgroupError> {
    if !is_frozen(dir)? {
        return Ok(None);
    }
    dir.parent().map_or(Ok(None), frozen_at_or_around)
}

/// The same, or this one itself.
fn frozen_at_or_around(dir: &Path) -> Result<Option<PathBuf>, CgroupError> {
    let mut reader = Reader::default();
    for dir in dir.ancestors() {
        match reader.number(&dir.join("freezer.self_freezing"))? {
            Some(0) => {}
            Some(_) => return Ok(Some(dir.to_owned())),
            None => break,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    fn freezer(test: &TestCgroup) -> Option<&PathBuf> {
        test.cgroup.v1.get(FREEZER)
    }

    #[test]
    fn one_dies_and_the_others_stay_frozen() {
        let Some(test) = TestCgroup::new("release-one") else { return };
        let Some(dir) = freezer(&test) else { return };
        let nested = test.nested("a");
        let [mut killed, mut stays] = [nested.sh("exec sleep 100"), test.sh("exec sleep 100")];
        test.cgroup.freeze().unwrap();
        until(|| !test.cgroup.is_freezing().unwrap());
        killed.kill().unwrap();
        let hierarchies = Hierarchies::discover().unwrap();
        test.cgroup.release(&hierarchies, killed.id()).unwrap();
        assert_eq!(killed.wait().unwrap().signal(), Some(9));
        assert!(is_frozen(dir).unwrap());
        assert!(stays.try_wait().unwrap().is_none());
        stays.kill().unwrap();
        test.cgroup.release_all().unwrap();
        assert_eq!(stays.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn what_is_frozen_around_it_stays_so_and_is_named() {
        let Some(test) = TestCgroup::new("release-around") else { return };
        let Some(around) = freezer(&test) else { return };
        let container = test.nested("a");
        let mut child = container.sh("exec sleep 100");
        test.cgroup.freeze().unwrap();
        container.cgroup.freeze().unwrap();
        until(|| !container.cgroup.is_freezing().unwrap());
        child.kill().unwrap();
        let hierarchies = Hierarchies::discover().unwrap();
        let one = container.cgroup.release(&hierarchies, child.id());
        for released in [one, container.cgroup.release_all()] {
            let error = released.unwrap_err();
            assert!(
                matches!(&error, CgroupError::FrozenAround { path } if path == around),
                "{error}"
            );
        }
        assert!(is_frozen(around).unwrap());
        test.cgroup.thaw().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        container.cgroup.release_all().unwrap();
        container.cgroup.release(&hierarchies, child.id()).unwrap();
    }
}
