//! A file system that never answers, as a network file system whose server is gone.

use std::{
    ffi::CString,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A FUSE mount that nobody serves: whoever looks into it waits. Dropping it ends that with an error
/// for all who wait.
#[derive(Debug)]
#[must_use]
pub struct DeadMount {
    /// Where it is.
    pub path: PathBuf,
    /// The kernel gives the file system up when it is closed.
    device: Option<File>,
}

impl DeadMount {
    /// Mounts it on a new directory. `None`, after saying so, when that is not possible here.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub fn new(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("make a directory for a mount");
        let device = match File::options().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                crate::skip(&format!("/dev/fuse: {error}"));
                return None;
            }
        };
        let fd = device.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        let options = CString::new(options).expect("no NUL");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        if let Err(error) = mount("dead", path, "fuse", flags, options.as_c_str()) {
            crate::skip(&format!("cannot mount FUSE: {error}"));
            return None;
        }
        Some(Self { path: path.to_owned(), device: Some(device) })
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        // First, or the path of the mount point could not be looked up.
        self.device = None;
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
