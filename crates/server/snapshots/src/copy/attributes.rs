//! Owners, modes, extended attributes and times.

use std::{
    ffi::{CStr, CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::{
    fd::{AsFd, AsRawFd},
    fs::{
        AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
        chownat, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query, lsetxattr, utimensat,
    },
    io::Errno,
};

/// Gives what has this name in one directory the attributes of what has it in another one. `.` is a directory itself.
pub(super) fn copy(from: impl AsFd, to: impl AsFd, name: &CStr, found: &Stat) -> Result<(), Errno> {
    let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    chownat(&to, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    // After the owner, whose change takes capabilities and set-user-ID away.
    extended(&from, &to, name)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
        chmodat(&to, name, Mode::from_raw_mode(found.st_mode), AtFlags::empty())?;
    }
    let times = Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec),
        last_modification: time(found.st_mtime, found.st_mtime_nsec),
    };
    utimensat(&to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn time(seconds: impl TryInto<i64>, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec {
        tv_sec: seconds.try_into().unwrap_or_default(),
        tv_nsec: nanoseconds.try_into().unwrap_or_default(),
    }
}

fn extended(from: impl AsFd, to: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let [from, to] = [path(from, name), path(to, name)];
    let names = match list(&from) {
        // The file system has none.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        names => names?,
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        lsetxattr(&to, &name, &value(&from, &name)?, XattrFlags::empty())?;
    }
    Ok(())
}

/// By which path the kernel finds it that takes no descriptor for this.
fn path(directory: impl AsFd, name: &CStr) -> PathBuf {
    let directory = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    PathBuf::from(directory).join(OsStr::from_bytes(name.to_bytes()))
}

/// The names of all, each with a zero behind it.
fn list(path: &PathBuf) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0; llistxattr_query(path)?];
    let length = if names.is_empty() { 0 } else { llistxattr(path, &mut names)? };
    names.truncate(length);
    Ok(names)
}

fn value(path: &PathBuf, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; lgetxattr_query(path, name)?];
    let length = if value.is_empty() { 0 } else { lgetxattr(path, name, &mut value)? };
    value.truncate(length);
    Ok(value)
}
