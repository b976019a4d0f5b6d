//! Unmounts everything from a place.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::open,
    mount::{MntFlags, umount2},
    sys::stat::Mode,
};

use super::{
    UnmountError,
    place::{A_DIRECTORY, path_of, walk},
    table::mounted_in,
};

/// Beyond one round for each mount that was there at first.
const ADDITIONAL_ROUNDS: usize = 16;

/// Unmounts all that is mounted at the path or below, deepest first, and nothing else. There may be nothing.
/// Where a mount is in use it is only detached: it ends when its last user does. A symbolic link at the
/// path is not followed.
///
/// # Errors
/// If the path is not absolute, or something stays mounted.
pub fn unmount_all(path: &Path) -> Result<(), UnmountError> {
    let Some(top) = Top::open(path)? else { return Ok(()) };
    let mut rounds = ADDITIONAL_ROUNDS;
    let mut first = true;
    loop {
        let mut mounted = mounted_in(&top.path)?;
        if mounted.is_empty() {
            return Ok(());
        }
        if first {
            rounds += mounted.len();
            first = false;
        }
        rounds = match rounds.checked_sub(1) {
            Some(left) => left,
            None => return Err(UnmountError::Endless { path: top.path }),
        };
        // Of mounts on each other only the last can be reached, and it can hide others below.
        mounted.dedup();
        let results: Vec<_> = mounted.iter().map(|mount_point| top.unmount(mount_point)).collect();
        if results.iter().any(Result::is_ok) {
            continue;
        }
        // Mounts that cannot be reached are detached with the one that hides them.
        top.detach(&top.path).map_err(|cause| {
            let first = results.into_iter().find_map(Result::err);
            UnmountError::refused(&top.path, first.unwrap_or(cause))
        })?;
    }
}

/// The place, whose parent is held by a descriptor.
struct Top {
    /// As the table of mounts has it: without links.
    path: PathBuf,
    parent: OwnedFd,
}

impl Top {
    /// `None` if not even the directory is there that the path is in.
    fn open(path: &Path) -> Result<Option<Self>, UnmountError> {
        let (true, Some(parent), Some(name)) =
            (path.is_absolute(), path.parent(), path.file_name())
        else {
            return Err(UnmountError::NotAPlace { path: path.to_owned() });
        };
        let failed = |cause: io::Error| UnmountError::Read { path: parent.to_owned(), cause };
        let opened = parent.canonicalize().and_then(|directory| {
            let parent = open(&directory, A_DIRECTORY, Mode::empty())?;
            Ok(Self { path: directory.join(name), parent })
        });
        match opened {
            Ok(top) => Ok(Some(top)),
            Err(cause)
                if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(cause) => Err(failed(cause)),
        }
    }

    /// Unmounts the last thing that was mounted there.
    fn unmount(&self, mount_point: &Path) -> nix::Result<()> {
        match self.umount(mount_point, MntFlags::empty()) {
            Err(Errno::EBUSY) => self.detach(mount_point),
            other => other,
        }
    }

    fn detach(&self, mount_point: &Path) -> nix::Result<()> {
        self.umount(mount_point, MntFlags::MNT_DETACH)
    }

    fn umount(&self, mount_point: &Path, flags: MntFlags) -> nix::Result<()> {
        let above = self.path.parent().and_then(|parent| mount_point.strip_prefix(parent).ok());
        let names = above.ok_or(Errno::EINVAL)?;
        let last = names.file_name().ok_or(Errno::EINVAL)?;
        let parent = self
            .parent
            .try_clone()
            .map_err(|cause| cause.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))?;
        let directory = walk(parent, names.parent().unwrap_or(Path::new("")))?;
        let mount_point = Path::new(&path_of(&directory)).join(last);
        umount2(&mount_point, flags | MntFlags::UMOUNT_NOFOLLOW)
    }
}
