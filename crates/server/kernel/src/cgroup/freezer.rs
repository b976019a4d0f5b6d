//! Stops and continues all processes of a container.

use std::path::Path;

use super::{
    Cgroup, CgroupError, Dir,
    error::present,
    file::{Reader, keyed, write},
    tree::{check_is_a_containers, walk},
};

impl Cgroup {
    /// Whether the container is frozen or freezing.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let mut reader = Reader::default();
        let frozen = match self.freezer()? {
            Dir::V1(dir) => reader
                .read_present(&dir.join("freezer.state"))?
                .map(|state| state.trim_ascii_end() != "THAWED"),
            Dir::V2(dir) => reader.number(&dir.join("cgroup.freeze"))?.map(|freeze| freeze != 0),
        };
        Ok(frozen.unwrap_or(false))
    }

    /// Whether the container is freezing: some of its processes are not frozen yet.
    pub fn is_freezing(&self) -> Result<bool, CgroupError> {
        let mut reader = Reader::default();
        match self.freezer()? {
            Dir::V1(dir) => {
                let state = reader.read_present(&dir.join("freezer.state"))?;
                Ok(state.is_some_and(|state| state.trim_ascii_end() == "FREEZING"))
            }
            Dir::V2(dir) => {
                let events = reader.read_present(&dir.join("cgroup.events"))?;
                let moves = events.is_some_and(|events| keyed(events, "frozen") == Some(0));
                Ok(moves && self.is_frozen()?)
            }
        }
    }

    /// Asks the kernel to freeze the container, which it does as soon as the processes can be frozen.
    pub(crate) fn freeze(&self) -> Result<(), CgroupError> {
        let dir = self.freezer()?;
        check_is_a_containers(dir.path())?;
        match dir {
            Dir::V1(dir) => write(&dir.join("freezer.state"), "FROZEN"),
            Dir::V2(dir) => write(&dir.join("cgroup.freeze"), "1"),
        }
    }

    /// Thaws the container.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let dir = self.freezer()?;
        thaw_one(dir, dir.path())
    }

    /// Thaws the container, and nested cgroups that were frozen by themselves.
    pub(crate) fn thaw_all(&self) -> Result<(), CgroupError> {
        let dir = self.freezer()?;
        for nested in walk(dir.path())? {
            present(thaw_one(dir, &nested))?;
        }
        Ok(())
    }

    fn freezer(&self) -> Result<Dir<'_>, CgroupError> {
        self.controller("freezer").ok_or(CgroupError::NoController("freezer"))
    }
}

fn thaw_one(kind: Dir<'_>, dir: &Path) -> Result<(), CgroupError> {
    match kind {
        Dir::V1(_) => write(&dir.join("freezer.state"), "THAWED"),
        Dir::V2(_) => write(&dir.join("cgroup.freeze"), "0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    /// Whether all processes are frozen.
    fn stands_still(dir: Dir<'_>) -> bool {
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        match dir {
            Dir::V1(_) => read("freezer.state") == "FROZEN\n",
            Dir::V2(_) => read("cgroup.events").contains("frozen 1"),
        }
    }

    #[test]
    fn freeze_and_thaw() {
        for test in TestCgroup::both("freeze") {
            let nested = test.nested("a");
            let mut child = nested.sh("exec sleep 100");
            assert!(!test.cgroup.is_frozen().unwrap());
            test.cgroup.freeze().unwrap();
            nested.cgroup.freeze().unwrap();
            assert!(test.cgroup.is_frozen().unwrap());
            until(|| stands_still(nested.cgroup.freezer().unwrap()));
            until(|| !test.cgroup.is_freezing().unwrap());
            test.cgroup.thaw().unwrap();
            assert!(!test.cgroup.is_frozen().unwrap());
            assert!(nested.cgroup.is_frozen().unwrap());
            test.cgroup.thaw_all().unwrap();
            assert!(!nested.cgroup.is_frozen().unwrap());
            until(|| !stands_still(nested.cgroup.freezer().unwrap()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
