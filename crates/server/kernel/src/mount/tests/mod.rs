//! Real mounts, in a mount namespace of the test's thread.

mod failures;
mod ids;
mod kinds;
mod layers;
mod unmounting;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use gantry_domain::Mount;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

use super::{
    MountError, MountProblem, UnmountError, mount_all, options::Options, table::mounted_in,
    unmount_all,
};

/// A directory with `rootfs` and whatever a test puts beside it, on a tmpfs of the test's own.
struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A directory beside `rootfs`.
    fn dir(&self, name: &str) -> String {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir.to_str().unwrap().to_owned()
    }

    /// A file in a directory beside `rootfs`; the directory.
    fn file(&self, dir: &str, name: &str) -> String {
        let path = self.dir(dir);
        fs::write(Path::new(&path).join(name), dir).unwrap();
        path
    }

    fn seen(&self, name: &str) -> String {
        fs::read_to_string(self.rootfs().join(name)).unwrap()
    }

    /// Where something is mounted on `rootfs` or below.
    fn mounted(&self) -> Vec<PathBuf> {
        mounted_in(&self.rootfs()).unwrap()
    }

    fn mount(&self, mounts: &[Mount]) -> Result<(), MountError> {
        mount_all(mounts, &self.rootfs())
    }

    fn unmount(&self) -> Result<(), UnmountError> {
        unmount_all(&self.rootfs())
    }

    /// The mount of `rootfs` or below, with options and all.
    fn line(&self, target: &str) -> String {
        let at = self.rootfs().join(target);
        let at = at.to_str().unwrap().trim_end_matches('/');
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let mut lines = table.lines().rev();
        lines.find(|line| line.split(' ').nth(4) == Some(at)).unwrap().to_owned()
    }
}

/// Runs a test in a thread with a mount namespace of its own; what it mounts is gone with the thread.
fn with_bundle(test: fn(&Bundle)) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    let in_thread = move || {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: needs CAP_SYS_ADMIN");
            return;
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(None::<&str>, &path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let bundle = Bundle { dir: path };
        bundle.dir("rootfs");
        test(&bundle);
    };
    std::thread::spawn(in_thread).join().unwrap();
}

fn a(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(ToString::to_string).collect();
    let source = source.to_owned();
    Mount { kind: kind.to_owned(), options, source, ..Mount::default() }
}

fn at(target: &str, mount: Mount) -> Mount {
    Mount { target: target.to_owned(), ..mount }
}

fn errno(path: PathBuf) -> Errno {
    let error = fs::write(path, "x").unwrap_err();
    Errno::from_raw(error.raw_os_error().unwrap())
}
