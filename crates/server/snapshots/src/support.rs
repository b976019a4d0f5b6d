//! Whether the host can mount overlays of what is in the state directory, and what options they need.

use std::{
    fs::{self, DirBuilder},
    io,
    path::Path,
};

use rustix::{
    fs::{Dir, FileType},
    io::Errno,
    mount::{FsOpenFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsopen},
};

use crate::{SnapshotError, layout::Layout, walk};

/// There if the kernel knows the option `index`.
const INDEX: &str = "/sys/module/overlay/parameters/index";

/// Which users of the host this process sees as which.
const USERS: &str = "/proc/self/uid_map";

/// What a process sees that is in no user namespace: all users as they are.
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// Finds the options that every overlay of a snapshot gets, or why there can be none.
pub(crate) fn options(layout: &Layout) -> Result<Result<Vec<String>, String>, SnapshotError> {
    let root = layout.root();
    let Some(text) = root.to_str() else { return Ok(Err(format!("{root:?} is not UTF-8"))) };
    if let Some(special) = text.chars().find(|char| [':', ',', '\\', '"'].contains(char)) {
        return Ok(Err(format!("{text} has a {special:?}, which is special in mount options")));
    }
    let users = fs::read_to_string(USERS).unwrap_or_default();
    let in_user_namespace = !users.split_whitespace().eq(ALL_USERS);
    let probe = layout.trash().join(format!("probe-{}", std::process::id()));
    let tried = try_in(&probe, in_user_namespace);
    // What a server that was killed has left goes with the rest of the trash.
    let removed = fs::remove_dir_all(&probe);
    removed.or_else(if_gone).map_err(SnapshotError::io("remove", &probe))?;
    if let Err(why) = tried? {
        return Ok(Err(why));
    }
    let mut options = Vec::new();
    if Path::new(INDEX).exists() {
        options.push("index=off".to_owned());
    }
    if in_user_namespace {
        options.push("userxattr".to_owned());
    }
    Ok(Ok(options))
}

fn if_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Has the kernel make an overlay, which is mounted nowhere. A full disk says nothing about overlays: they count as
/// possible, so that snapshots can be removed.
fn try_in(probe: &Path, in_user_namespace: bool) -> Result<Result<(), String>, SnapshotError> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| probe.join(name));
    for dir in [&lower, &upper, &work] {
        let made = DirBuilder::new().recursive(true).create(dir);
        match made.map_err(SnapshotError::io("make", dir)) {
            Err(SnapshotError::NoRoom { .. }) => return Ok(Ok(())),
            made => made?,
        }
    }
    if !tells_types(probe)? {
        let why = "the file system does not tell types of directory entries (d_type)";
        return Ok(Err(format!("{why}, which overlayfs needs")));
    }
    let overlay = || -> Result<(), Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "overlay")?;
        fsconfig_set_string(&context, "lowerdir", &lower)?;
        fsconfig_set_string(&context, "upperdir", &upper)?;
        fsconfig_set_string(&context, "workdir", &work)?;
        if in_user_namespace {
            fsconfig_set_flag(&context, "userxattr")?;
        }
        fsconfig_create(&context)
    };
    judge(overlay()).map_err(SnapshotError::io("make an overlay of", probe))
}

/// What the kernel's answer says about overlays. An error is one that says nothing about them.
fn judge(made: Result<(), Errno>) -> Result<Result<(), String>, Errno> {
    match made {
        // Before Linux 5.2 it is not known before the first mount.
        Ok(()) | Err(Errno::NOSYS) => Ok(Ok(())),
        // On a full disk neither.
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(Ok(())),
        Err(error @ (Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::INTR | Errno::AGAIN)) => {
            Err(error)
        }
        Err(error) => Ok(Err(format!("the kernel makes no overlay of what is there: {error}"))),
    }
}

/// Whether names in a directory come with what they are.
fn tells_types(dir: &Path) -> Result<bool, SnapshotError> {
    let failed = || SnapshotError::io::<Errno>("list", dir);
    let mut entries = Dir::new(walk::top(dir)?).map_err(failed())?;
    let first = walk::next(&mut entries).map_err(failed())?;
    Ok(first.is_some_and(|entry| entry.file_type() == FileType::Directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_says_of_overlays_counts() {
        for fine in [Ok(()), Err(Errno::NOSYS), Err(Errno::NOSPC), Err(Errno::DQUOT)] {
            assert_eq!(judge(fine), Ok(Ok(())));
        }
        for again in [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::INTR] {
            assert_eq!(judge(Err(again)), Err(again));
        }
        for never in [Errno::NODEV, Errno::INVAL, Errno::PERM] {
            assert!(judge(Err(never)).unwrap().is_err());
        }
    }
}
