//! Follows the symbolic links of a path, each on its own file system.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use crate::mounts::{Device, MountTable};

/// The kernel's limit, see path_resolution(7).
const MAX_LINKS: usize = 40;

/// A path, as far as it has been followed.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The part that has been followed: it has no links.
    done: PathBuf,
    rest: VecDeque<OsString>,
    links: usize,
    device: Device,
}

/// How far one file system leads.
#[derive(Debug)]
pub(crate) enum Step {
    /// To the end of the path, or to the first component that is missing.
    Arrived,
    /// Into another file system.
    Crossed(Walk),
}

impl Walk {
    /// Up to its mount a path has no links: the kernel lists mount points without links.
    pub(crate) fn new(mounts: &MountTable, path: &Path) -> Self {
        let (mount, device) = mounts.of(path);
        let rest = path.strip_prefix(mount).unwrap_or(path).components();
        let rest = rest.map(|part| part.as_os_str().to_owned()).collect();
        Self { done: mount.to_owned(), rest, links: 0, device }
    }

    /// The file system that the walk goes on in.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Goes on, for a thread of that file system.
    pub(crate) fn go(mut self, mounts: &MountTable) -> Step {
        while let Some(part) = self.rest.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::ParentDir) => {
                    self.done.pop();
                }
                Some(Component::RootDir) => self.done = PathBuf::from("/"),
                Some(Component::Normal(name)) => self.done.push(name),
                Some(Component::CurDir | Component::Prefix(_)) | None => continue,
            }
            let (_, device) = mounts.of(&self.done);
            if device != self.device {
                self.device = device;
                return Step::Crossed(self);
            }
            // If it is no link, or not there, that shows when it is opened.
            if let Ok(target) = fs::read_link(&self.done) {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Step::Arrived;
                }
                self.done.pop();
                for part in target.components().rev() {
                    self.rest.push_front(part.as_os_str().to_owned());
                }
            }
        }
        Step::Arrived
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::mounts::Mounts;

    /// Where the walk of a path leads to.
    fn end(path: &Path) -> (PathBuf, usize) {
        let mounts = Mounts::open().unwrap().table();
        let mut walk = Walk::new(&mounts, path);
        let mut crossed = 0;
        loop {
            let done = walk.done.clone();
            match walk.go(&mounts) {
                Step::Arrived => return (done, crossed),
                Step::Crossed(further) => walk = further,
            }
            crossed += 1;
            assert!(crossed < 10, "{path:?}");
        }
    }

    #[test]
    fn links_lead_to_their_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("a")).unwrap();
        symlink("/proc/self/../sys/kernel", path("a/out")).unwrap();
        symlink("a/out/./ostype", path("twice")).unwrap();
        symlink("loop", path("loop")).unwrap();
        assert_eq!(end(&path("twice")).0, Path::new("/proc"));
        assert_eq!(end(&path("twice")).1, 1);
        for here in [path("a"), path("none/x"), path("loop"), path("a/../../..")] {
            assert_eq!(end(&here).1, 0, "{here:?}");
        }
    }
}
