//! Walks the cgroups nested in a container's: who is in them, and their removal.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};

use super::{
    Cgroup, CgroupError,
    error::present,
    file::{Reader, keyed},
};

/// A bound on the walk, far above what containers in containers need.
const MAX_NESTED: usize = 65_536;

impl Cgroup {
    /// The pids, as the server sees them, of every process in the container, nested cgroups
    /// included, in ascending order. Empty once the container is gone.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        self.pids_of_few(MAX_NESTED).map(Option::unwrap_or_default)
    }

    /// As [`Self::pids`], but `None` as soon as there are more than `few` nested cgroups.
    pub fn pids_of_few(&self, few: usize) -> Result<Option<Vec<u32>>, CgroupError> {
        let mut reader = Reader::default();
        for dir in self.member_dirs() {
            match members(&mut reader, dir.path(), few) {
                Ok(None) => {}
                Err(CgroupError::TooManyNested { .. }) if few < MAX_NESTED => return Ok(None),
                found => return found,
            }
        }
        Ok(Some(Vec::new()))
    }

    /// How many processes of the container the OOM killer has killed. Zero
    /// without a memory controller, and on v1 before Linux 4.13, which does not count.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let mut reader = Reader::default();
        match self.controller("memory") {
            None => Ok(0),
            Some(super::Dir::V2(dir)) => oom_kills_in(&mut reader, &dir.join("memory.events")),
            // A v1 counter is that of one cgroup alone.
            Some(super::Dir::V1(dir)) => walk(dir)?.iter().try_fold(0, |sum, dir| {
                Ok(sum + oom_kills_in(&mut reader, &dir.join("memory.oom_control"))?)
            }),
        }
    }

    /// Removes the directories in all hierarchies, nested ones first. None may have a process
    /// any more (`EBUSY`).
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut dirs: Vec<&PathBuf> = self.v1.values().chain(&self.unified).collect();
        dirs.dedup();
        for dir in dirs {
            // Only a cgroup: the path may be from a file, and empty directories are everywhere.
            if is_cgroup(dir)? {
                for nested in walk(dir)?.iter().rev() {
                    let removed = fs::remove_dir(nested);
                    present(removed.map_err(|error| CgroupError::io("remove", nested, error)))?;
                }
            }
        }
        Ok(())
    }
}

fn oom_kills_in(reader: &mut Reader, path: &Path) -> Result<u64, CgroupError> {
    Ok(reader.read_present(path)?.and_then(|text| keyed(text, "oom_kill")).unwrap_or(0))
}

/// The processes in a cgroup and those nested in it; `None` if it does not exist.
fn members(reader: &mut Reader, dir: &Path, limit: usize) -> Result<Option<Vec<u32>>, CgroupError> {
    let mut pids = Vec::new();
    if !read_members(reader, dir, &mut pids)? {
        return Ok(None);
    }
    if nested(dir) > 0 {
        for nested in walk_up_to(dir, limit)?.iter().skip(1) {
            read_members(reader, nested, &mut pids)?;
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(Some(pids))
}

/// Adds the processes of one cgroup; false if it does not exist.
fn read_members(reader: &mut Reader, dir: &Path, pids: &mut Vec<u32>) -> Result<bool, CgroupError> {
    let path = dir.join("cgroup.procs");
    let text = match present(reader.read(&path)) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(false),
        // In a threaded cgroup of v2: its processes are listed at the root of its domain.
        Err(CgroupError::Io { cause, .. })
            if cause.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) =>
        {
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    for line in text.lines() {
        pids.push(line.parse().map_err(|_| CgroupError::malformed(&path, line))?);
    }
    Ok(true)
}

/// How many directories are in it: the number of its links, as kernfs counts them.
fn nested(dir: &Path) -> u64 {
    dir.metadata().map_or(0, |dir| dir.nlink().saturating_sub(2))
}

/// A cgroup and all those nested in it, each after the one that it is in. Those that are removed meanwhile are left
/// out.
pub(super) fn walk(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    walk_up_to(dir, MAX_NESTED)
}

/// Fails if more than `limit` are nested, before it has listed them all.
fn walk_up_to(dir: &Path, limit: usize) -> Result<Vec<PathBuf>, CgroupError> {
    let mut dirs = vec![dir.to_owned()];
    let mut visited = 0;
    while let Some(parent) = dirs.get(visited) {
        let nested = nested(parent);
        if dirs.len() as u64 + nested > limit as u64 + 1 {
            return Err(CgroupError::TooManyNested { path: dir.to_owned(), limit });
        }
        let found = if nested > 0 { subdirectories(parent)? } else { Vec::new() };
        dirs.extend(found);
        visited += 1;
    }
    Ok(dirs)
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            }
        }
        Ok(dirs)
    };
    let listed = present(list().map_err(|error| CgroupError::io("list", dir, error)))?;
    Ok(listed.unwrap_or_default())
}

/// Refuses a cgroup that the server, or the host's first process, is in: whatever is done to all
/// members of a container must never be done to these.
pub(super) fn check_is_a_containers(dir: &Path) -> Result<(), CgroupError> {
    let pids = members(&mut Reader::default(), dir, MAX_NESTED)?.unwrap_or_default();
    match pids.into_iter().find(|&pid| pid == 1 || pid == process::id()) {
        Some(pid) => Err(CgroupError::NotAContainer { path: dir.to_owned(), pid }),
        None => Ok(()),
    }
}

/// Whether the directory exists and is in a cgroup filesystem.
fn is_cgroup(dir: &Path) -> Result<bool, CgroupError> {
    match statfs(dir) {
        Ok(fs) => Ok([CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&fs.filesystem_type())),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(CgroupError::io("examine", dir, error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::{TestCgroup, existing, until};

    #[test]
    fn pids_of_nested_cgroups_count() {
        for test in TestCgroup::both("pids") {
            assert!(test.cgroup.pids().unwrap().is_empty());
            let deep = test.nested("a").nested("b");
            let mut children = [deep.sh("exec sleep 100"), test.sh("exec sleep 100")];
            let mut expected = children.each_ref().map(std::process::Child::id);
            expected.sort_unstable();
            assert_eq!(test.cgroup.pids().unwrap(), expected);
            for child in &mut children {
                child.kill().unwrap();
            }
            // Processes that have ended are not listed, reaped or not.
            until(|| test.cgroup.pids().unwrap().is_empty());
            for child in &mut children {
                child.wait().unwrap();
            }
        }
    }

    #[test]
    fn many_nested_cgroups_are_not_read_where_few_are_wanted() {
        for test in TestCgroup::both("few") {
            for name in ["a", "b", "c"] {
                test.nested(name);
            }
            assert_eq!(test.cgroup.pids_of_few(2).unwrap(), None);
            assert_eq!(test.cgroup.pids_of_few(3).unwrap(), Some(Vec::new()));
        }
    }

    #[test]
    fn removal() {
        for test in TestCgroup::both("remove") {
            let nested = test.nested("a").nested("b");
            let mut child = nested.sh("exec sleep 100");
            let error = test.cgroup.remove().unwrap_err();
            let CgroupError::Io { path, cause, .. } = error else { panic!("{error}") };
            assert_eq!(cause.raw_os_error(), Some(Errno::EBUSY as i32));
            assert!(path.ends_with("a/b"), "{path:?}");
            child.kill().unwrap();
            child.wait().unwrap();
            until(|| test.cgroup.remove().is_ok());
            assert_eq!(existing(&test), Vec::<PathBuf>::new());
            test.cgroup.remove().unwrap();
            assert!(test.cgroup.pids().unwrap().is_empty());
        }
    }

    #[test]
    fn only_cgroups_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup { v1: [].into(), unified: Some(dir.path().to_owned()) };
        cgroup.remove().unwrap();
        assert!(dir.path().exists());
    }

    #[test]
    fn what_holds_the_server_is_not_a_containers() {
        for test in TestCgroup::both("own") {
            let dir = test.cgroup.member_dir().unwrap().path();
            check_is_a_containers(dir).unwrap();
            let root = dir.ancestors().nth(2).unwrap();
            let error = check_is_a_containers(root).unwrap_err();
            assert!(matches!(error, CgroupError::NotAContainer { .. }), "{error}");
        }
    }
}
