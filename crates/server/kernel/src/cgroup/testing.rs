//! Real cgroups for tests, removed when they end, whatever is still in them.

#![allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "for tests only")]
#![cfg_attr(not(test), allow(dead_code, unused_imports, reason = "other crates use a part"))]

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Cgroup, Hierarchies, file::Reader, tree::walk};

/// A cgroup below a directory of this test process.
pub struct TestCgroup {
    /// Its directories.
    pub cgroup: Cgroup,
    /// A nested one is removed with the one that it is in.
    nested: bool,
}

impl TestCgroup {
    /// In all v1 hierarchies, or in v2 with its controllers where there are none. `None`, and a
    /// message, where cgroups cannot be made.
    pub fn new(name: &str) -> Option<Self> {
        let mut cgroup = predicted(name)?;
        // Its processors would have to be set first.
        cgroup.v1.remove("cpuset");
        if !cgroup.v1.is_empty() {
            cgroup.unified = None;
        }
        let test = Self::make(cgroup, false)?;
        for dir in test.cgroup.unified.iter().flat_map(|dir| dir.ancestors().skip(1).take(2)) {
            enable_controllers(dir);
        }
        Some(test)
    }

    /// In v2, where that has a tree of its own beside v1.
    pub(super) fn unified(name: &str) -> Option<Self> {
        let mut cgroup = predicted(name)?;
        if cgroup.v1.is_empty() || cgroup.unified.is_none() {
            return None;
        }
        cgroup.v1.clear();
        Self::make(cgroup, false)
    }

    /// Where it can be in both kinds.
    pub(super) fn both(name: &str) -> impl Iterator<Item = Self> {
        Self::new(name).into_iter().chain(Self::unified(name))
    }

    fn make(cgroup: Cgroup, nested: bool) -> Option<Self> {
        let test = Self { cgroup, nested };
        for dir in test.dirs() {
            match make(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    println!("skipped: {error}");
                    return None;
                }
                Err(error) => panic!("cannot make {}: {error}", dir.display()),
            }
        }
        Some(test)
    }

    pub(super) fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.cgroup.v1.values().chain(&self.cgroup.unified)
    }

    /// In all hierarchies one level deeper.
    pub(super) fn nested(&self, name: &str) -> Self {
        let nested = |dir: &PathBuf| dir.join(name);
        let v1 = self.cgroup.v1.iter().map(|(key, dir)| (key.clone(), nested(dir))).collect();
        let unified = self.cgroup.unified.as_ref().map(nested);
        Self::make(Cgroup { v1, unified }, true).unwrap()
    }

    /// The same with controllers in v2; only such ones may have processes then.
    pub(super) fn nested_with_controllers(&self, name: &str) -> Self {
        self.cgroup.unified.iter().for_each(|dir| enable_controllers(dir));
        self.nested(name)
    }

    /// A shell script in the cgroup from its first line on.
    pub fn sh(&self, script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        for dir in self.dirs() {
            let moved = fs::write(dir.join("cgroup.procs"), child.id().to_string());
            assert!(moved.is_ok(), "cannot move into {}: {moved:?}", dir.display());
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        child
    }

    /// Limits the memory of the cgroup, swap included.
    pub fn limit_memory(&self, bytes: &str) {
        let dir = self.cgroup.controller("memory").unwrap().path();
        for name in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"] {
            if dir.join(name).exists() {
                fs::write(dir.join(name), bytes).unwrap();
            }
        }
        if dir.join("memory.swap.max").exists() {
            fs::write(dir.join("memory.swap.max"), "0").unwrap();
        }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        if self.nested {
            return;
        }
        let _ = self.cgroup.thaw_all();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.cgroup.remove().is_err() && Instant::now() < deadline {
            for pid in self.cgroup.pids().unwrap_or_default() {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
            sleep(Duration::from_millis(10));
        }
        // The parent directory is removed with the last cgroup in it.
        for parent in self.dirs().filter_map(|dir| dir.parent()) {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn predicted(name: &str) -> Option<Cgroup> {
    let path = format!("/gantry-test-cgroup-{}/{name}", id());
    Cgroup::predicted(&Hierarchies::discover().unwrap(), &path)
}

fn make(dir: &Path) -> std::io::Result<()> {
    // Another test may remove the parent directory at the same time.
    while let Err(error) = fs::create_dir_all(dir) {
        if error.kind() != ErrorKind::NotFound {
            return Err(error);
        }
    }
    Ok(())
}

/// Gives the cgroups in a v2 directory their controllers.
fn enable_controllers(dir: &Path) {
    for controller in ["cpu", "io", "memory", "pids"] {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Waits until a condition holds.
pub(super) fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not so after a minute");
        sleep(Duration::from_millis(2));
    }
}

/// A directory with files of these contents, and a reader for them.
#[cfg(test)]
pub(super) fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    (dir, Reader::default())
}

/// The cgroups that exist now, from the top.
pub(super) fn existing(test: &TestCgroup) -> Vec<PathBuf> {
    let dirs = test.dirs().filter(|dir| dir.exists());
    dirs.flat_map(|dir| walk(dir).unwrap()).collect()
}
