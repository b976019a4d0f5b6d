//! A small disk, for tests of what happens when there is no room.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "for tests only"
)]

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs a test in a thread that has a tmpfs of this size mounted on a directory, in a mount namespace of its own. The tmpfs is gone with the
/// thread. Without the right to mount there is no such test.
///
/// # Panics
/// If the test does, or nothing can be mounted.
pub fn with_small_disk(dir: &Path, size: &str, test: fn(&Path)) {
    let (path, options) = (dir.to_owned(), format!("size={size}"));
    let on_small_disk = move || {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: needs CAP_SYS_ADMIN");
            return;
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(None::<&str>, &path, Some("tmpfs"), MsFlags::empty(), Some(&*options)).unwrap();
        test(&path);
    };
    std::thread::spawn(on_small_disk).join().unwrap();
}

/// Fills the disk to the last page; returns the file that does.
///
/// # Panics
/// If the file cannot be made.
pub fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    path
}
