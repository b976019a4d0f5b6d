//! What something is mounted on, held by a descriptor, so that nobody can exchange it meanwhile.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlink},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{stat::Mode, statvfs::fstatvfs},
};

use super::{MountProblem, options::from_statvfs};

/// A path that leads to what the descriptor is open on.
pub(super) fn path_of(fd: &impl AsRawFd) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

pub(super) const A_DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Goes down without following links: whoever can write below a directory could put one where a directory
/// was, and have something else unmounted.
pub(super) fn walk(from: OwnedFd, names: &Path) -> nix::Result<OwnedFd> {
    names.iter().try_fold(from, |above, name| openat(above, name, A_DIRECTORY, Mode::empty()))
}

/// A directory or file. What is mounted on it later is another place with the same path.
pub(super) struct Place(pub(super) OwnedFd);

impl Place {
    /// What is now seen at a path below the root file system, whose own links lead nowhere else.
    pub(super) fn open(rootfs: &Path, target: &str) -> Result<Self, MountProblem> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = open(rootfs, A_DIRECTORY, Mode::empty())
            .map_err(MountProblem::of("open the root file system's directory"))?;
        if target.is_empty() {
            return Ok(Self(root));
        }
        let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(inside);
        loop {
            match openat2(&root, target, how) {
                // The kernel cannot follow a ".." while anything is renamed or mounted on the host.
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                opened => {
                    let problem = MountProblem::of("open the target in the root file system");
                    return opened.map(Self).map_err(problem);
                }
            }
        }
    }

    /// What was mounted here last, or this place itself.
    pub(super) fn covered_by(&self) -> Result<Self, MountProblem> {
        let problem = MountProblem::of("open what was mounted");
        let opened = readlink(&*path_of(&self.0)).and_then(|path| {
            let path = PathBuf::from(path);
            let root = open("/", A_DIRECTORY, Mode::empty())?;
            let names = path.strip_prefix("/").map_err(|_| Errno::ENOENT)?;
            match names.file_name() {
                Some(last) => {
                    let parent = walk(root, names.parent().unwrap_or(Path::new("")))?;
                    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    openat(parent, last, flags, Mode::empty())
                }
                None => Ok(root),
            }
        });
        opened.map(Self).map_err(problem)
    }

    /// The flags of the mount that this is in.
    pub(super) fn flags(&self) -> Result<MsFlags, MountProblem> {
        let stat = fstatvfs(&self.0).map_err(MountProblem::of("statvfs"))?;
        Ok(from_statvfs(stat.flags()))
    }

    /// Changes flags or the propagation.
    pub(super) fn change(
        &self,
        operation: &'static str,
        flags: MsFlags,
    ) -> Result<(), MountProblem> {
        mount(None::<&str>, &*path_of(&self.0), None::<&str>, flags, None::<&str>)
            .map_err(MountProblem::of(operation))
    }

    /// Detaches what was mounted here last, and all that is mounted below that. The mounts end once nobody has a
    /// file of them open.
    pub(super) fn uncover(&self) -> nix::Result<()> {
        match umount2(&*path_of(&self.0), MntFlags::MNT_DETACH) {
            // Somebody else has unmounted it.
            Err(Errno::EINVAL) => Ok(()),
            other => other,
        }
    }
}
