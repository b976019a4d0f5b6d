//! What a runtime that was killed has left mounted in its own directory of a container.
//!
//! runc mounts its own binary there for a moment whenever it enters a container (its defence
//! against CVE-2019-5736, `libcontainer/nsenter/cloned_binary.c`). Killed in that moment it leaves the
//! mount, no `delete` removes the directory from then on, and the id is taken for good.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::domain::ContainerId;

/// Where runc keeps its state unless told otherwise, see runc(8).
const DEFAULT_ROOT: &str = "/run/runc";

/// Unmounts it; whether there was something. To be called when nothing is left of the container.
pub(super) fn remove(runtime_args: &[String], id: &ContainerId) -> bool {
    let directory = root(runtime_args).join(id.as_str());
    if !directory.is_dir() {
        return false;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut unmounted = false;
    for point in mounts.lines().filter_map(point).filter(|point| point.starts_with(&directory)) {
        match umount2(point, MntFlags::MNT_DETACH) {
            Ok(()) => unmounted = true,
            Err(error) => {
                tracing::warn!(mount = %point.display(), %error, "a runtime's own mount is left");
            }
        }
    }
    unmounted
}

fn root(runtime_args: &[String]) -> PathBuf {
    let mut args = runtime_args.iter();
    while let Some(arg) = args.next() {
        match arg.trim_start_matches('-').split_once('=') {
            Some(("root", path)) => return path.into(),
            None if arg.trim_start_matches('-') == "root" => {
                return args.next().map(PathBuf::from).unwrap_or_default();
            }
            _ => {}
        }
    }
    DEFAULT_ROOT.into()
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
    fn the_root_is_what_the_arguments_say() {
        let root_of =
            |args: &[&str]| root(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(root_of(&[]), Path::new("/run/runc"));
        assert_eq!(root_of(&["--debug", "--root", "/a"]), Path::new("/a"));
        assert_eq!(root_of(&["--root=/b", "--debug"]), Path::new("/b"));
        assert_eq!(root_of(&["-root", "/c"]), Path::new("/c"));
    }

    #[test]
    fn a_binary_that_is_mounted_is_unmounted() {
        let root = tempfile::tempdir().unwrap();
        let args = ["--root".to_owned(), root.path().to_str().unwrap().to_owned()];
        let id = ContainerId::parse("web").unwrap();
        assert!(!remove(&args, &id), "there is no such container");
        let file = root.path().join("web/runc.aBcDeF");
        fs::create_dir(root.path().join("web")).unwrap();
        fs::write(&file, "").unwrap();
        assert!(!remove(&args, &id), "nothing is mounted");
        let none = None::<&str>;
        mount(Some("/bin/sh"), &file, none, MsFlags::MS_BIND, none).unwrap();
        fs::remove_dir_all(root.path().join("web")).unwrap_err();
        assert!(remove(&args, &id));
        fs::remove_dir_all(root.path().join("web")).unwrap();
    }
}
