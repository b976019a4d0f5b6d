//! The cgroup trees of the host, as the tests look at them.

use std::{
    fs,
    path::{Path, PathBuf},
};

const MOUNT: &str = "/sys/fs/cgroup";

/// Whether the host has version 2 only.
#[must_use]
pub fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Whether the host has version 1 and, beside it, a version 2 tree.
#[must_use]
pub fn is_hybrid() -> bool {
    Path::new(MOUNT).join("unified/cgroup.controllers").exists()
}

/// The hierarchy of version 1 that freezes.
#[must_use]
pub fn freezer_v1() -> Option<PathBuf> {
    let path = Path::new(MOUNT).join("freezer");
    path.join("tasks").exists().then_some(path)
}

/// The directories of a cgroup in all hierarchies where it exists.
#[must_use]
pub fn directories(cgroup: &str) -> Vec<PathBuf> {
    let relative = cgroup.trim_start_matches('/');
    let mut hierarchies = vec![PathBuf::from(MOUNT)];
    if !is_v2() {
        let entries = fs::read_dir(MOUNT).expect("list cgroup hierarchies").flatten();
        // Co-mounted controllers have symlinks; the real directory is enough.
        hierarchies = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
    }
    hierarchies.into_iter().map(|root| root.join(relative)).filter(|dir| dir.exists()).collect()
}

/// The directories inside a cgroup, in all hierarchies.
#[must_use]
pub fn children(cgroup: &str) -> Vec<PathBuf> {
    directories(cgroup).iter().flat_map(|directory| subdirectories(directory)).collect()
}

/// A control file of a cgroup: on version 1 in the hierarchy of its controller.
#[must_use]
pub fn read(cgroup: &str, file: &str) -> Option<String> {
    let found = directories(cgroup).into_iter().map(|dir| dir.join(file)).find(|f| f.exists())?;
    fs::read_to_string(found).ok().map(|text| text.trim_end().to_owned())
}

/// Freezes or thaws a cgroup behind everybody's back.
///
/// # Panics
/// When there is no freezer.
pub fn set_frozen(cgroup: &str, frozen: bool) {
    let (file, value) = match (is_v2(), frozen) {
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    };
    let directories = directories(cgroup).into_iter();
    let path = directories.map(|dir| dir.join(file)).find(|path| path.exists());
    fs::write(path.expect("a freezer"), value).expect("write the freezer's state");
}

/// Thaws everything in a cgroup and removes it with all inside; for cleaning up only.
pub fn remove(cgroup: &str) {
    for directory in directories(cgroup) {
        remove_tree(&directory);
    }
}

/// Thaws everything in a cgroup, so that it can die.
pub fn thaw(cgroup: &str) {
    for directory in children(cgroup) {
        let _ = fs::write(directory.join("freezer.state"), "THAWED");
        let _ = fs::write(directory.join("cgroup.freeze"), "0");
    }
}

fn remove_tree(directory: &Path) {
    for child in subdirectories(directory) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(directory);
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
