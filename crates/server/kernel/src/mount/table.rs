//! What is mounted where, from the file that proc_pid_mountinfo(5) describes.

use std::{
    cmp::Reverse,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::UnmountError;

/// The thread's: another thread of the process may have mounts of its own.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// Where something is mounted at or below the path, deepest first. A place where mounts lie on each
/// other is there once for each.
pub(super) fn mounted_in(path: &Path) -> Result<Vec<PathBuf>, UnmountError> {
    let table =
        fs::read(TABLE).map_err(|cause| UnmountError::Read { path: TABLE.into(), cause })?;
    let mut found = Vec::new();
    for line in table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mount_point = mount_point(line).ok_or_else(|| {
            let line = String::from_utf8_lossy(line).into_owned();
            UnmountError::Malformed { line }
        })?;
        if mount_point.starts_with(path) {
            found.push(mount_point);
        }
    }
    found.sort_by_cached_key(|mount_point| {
        (Reverse(mount_point.components().count()), mount_point.clone())
    });
    Ok(found)
}

/// The fifth field.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|&byte| byte == b' ').nth(4)?;
    Some(PathBuf::from(OsString::from_vec(unescaped(field)?)))
}

/// Blanks, newlines and backslashes are there as three octal digits.
fn unescaped(field: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = field.iter();
    let mut plain = Vec::with_capacity(field.len());
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let mut value = 0_u32;
        for _ in 0..3 {
            value = value * 8 + char::from(*bytes.next()?).to_digit(8)?;
        }
        plain.push(u8::try_from(value).ok()?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_the_fifth_field() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c\011\012/d rw shared:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/a b\\c\t\n/d")));
        assert_eq!(mount_point(b"36 35 98:0 /mnt1"), None);
        assert_eq!(mount_point(br"36 35 98:0 / /a\04"), None);
        assert_eq!(mount_point(br"36 35 98:0 / /a\777"), None);
    }
}
