//! What a runtime that was killed has left mounted in its own directory of a container.
//!
//! runc mounts its own binary there for a moment whenever it enters a container (its defence
//! against CVE-2019-5736, `libcontainer/nsenter/cloned_binary.c`). Killed in that moment it leaves the
//! mount, no `delete` removes the directory from then on, and the id is taken for good.

use std::{fs, path::Path};

use nix::mount::{MntFlags, umount2};

/// Unmounts it; returns whether anything was mounted. To be called when nothing is left of the container.
pub(super) fn remove(directory: &Path) -> bool {
    if !directory.is_dir() {
        return false;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut unmounted = false;
    for point in mounts.lines().filter_map(point).filter(|point| point.starts_with(directory)) {
        match umount2(point, MntFlags::MNT_DETACH) {
            Ok(()) => unmounted = true,
            Err(error) => {
                tracing::warn!(mount = %point.display(), %error, "a runtime's own mount is left");
            }
        }
    }
    unmounted
}

/// The mount point, the fifth field of a line, see proc(5). One with a blank in it is written with
/// escapes, and not found.
fn point(line: &str) -> Option<&Path> {
    line.split(' ').nth(4).map(Path::new)
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;

    #[test]
    fn a_binary_that_is_mounted_is_unmounted() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("web");
        assert!(!remove(&directory), "there is no such container");
        let file = directory.join("runc.aBcDeF");
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "").unwrap();
        assert!(!remove(&directory), "nothing is mounted");
        let none = None::<&str>;
        mount(Some("/bin/sh"), &file, none, MsFlags::MS_BIND, none).unwrap();
        fs::remove_dir_all(&directory).unwrap_err();
        assert!(remove(&directory));
        fs::remove_dir_all(&directory).unwrap();
    }
}
