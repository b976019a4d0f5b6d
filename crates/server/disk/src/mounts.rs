//! Which file system is mounted where, from /proc/self/mountinfo; see proc_pid_mountinfo(5).

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStringExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A file system, however often it is mounted: what stat(2) calls `st_dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Device {
    major: u32,
    minor: u32,
}

/// Where file systems are mounted.
#[derive(Debug, Default)]
pub(crate) struct MountTable(HashMap<PathBuf, Device>);

/// The mount table, kept up to date.
pub(crate) struct Mounts {
    source: Arc<File>,
    table: Arc<MountTable>,
    stale: bool,
}

/// Reads the table.
pub(crate) struct Reader(Arc<File>);

impl MountTable {
    /// What is mounted exactly there.
    pub(crate) fn at(&self, path: &Path) -> Option<Device> {
        self.0.get(path).copied()
    }

    /// The mount that a path without links is in: where it begins, and what it is.
    pub(crate) fn of<'a>(&self, path: &'a Path) -> (&'a Path, Device) {
        let mount = path.ancestors().find_map(|prefix| Some((prefix, self.at(prefix)?)));
        // In a chroot whose root is no mount, everything counts as one file system.
        mount.unwrap_or((Path::new("/"), Device { major: 0, minor: 0 }))
    }

    fn parse(text: &[u8]) -> Self {
        // Of two mounts on the same directory the later one is on top.
        Self(text.split(|byte| *byte == b'\n').filter_map(entry).collect())
    }
}

fn entry(line: &[u8]) -> Option<(PathBuf, Device)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    Some((unescaped(fields.nth(1)?), device))
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(path).into()
}

impl Mounts {
    pub(crate) fn open() -> io::Result<Self> {
        let source = Arc::new(File::open(MOUNTINFO)?);
        let table = Arc::new(Reader(Arc::clone(&source)).table()?);
        Ok(Self { source, table, stale: false })
    }

    /// Whether the table has to be read again.
    pub(crate) fn have_changed(&mut self) -> bool {
        let mut fds = [PollFd::new(self.source.as_fd(), PollFlags::POLLPRI)];
        // An error says nothing of the mounts; the table that was read before is used.
        let changed = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        self.stale |= changed;
        self.stale
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.source))
    }

    pub(crate) fn set(&mut self, table: MountTable) {
        self.table = Arc::new(table);
        self.stale = false;
    }

    pub(crate) fn table(&self) -> Arc<MountTable> {
        Arc::clone(&self.table)
    }
}

impl Reader {
    pub(crate) fn table(&self) -> io::Result<MountTable> {
        let mut text = vec![0; 16 << 10];
        let mut length = 0;
        loop {
            if length == text.len() {
                text.resize(2 * length, 0);
            }
            match self.0.read_at(&mut text[length..], length as u64) {
                Ok(0) => return Ok(MountTable::parse(&text[..length])),
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_the_longest_mount() {
        let table = MountTable::parse(
            b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
              23 22 0:20 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n\
              24 23 0:21 / /run/a\\040b rw - fuse fuse rw\n\
              25 23 0:21 /x /run/again rw - fuse fuse rw\n\
              nonsense\n",
        );
        let of = |path| {
            let (mount, device) = table.of(Path::new(path));
            (mount.to_owned(), device.minor)
        };
        assert_eq!(of("/etc/passwd"), ("/".into(), 0));
        assert_eq!(of("/runner"), ("/".into(), 0));
        assert_eq!(of("/run/x/y"), ("/run".into(), 20));
        assert_eq!(of("/run/a b/c"), ("/run/a b".into(), 21));
        assert_eq!(of("/run/again"), ("/run/again".into(), 21));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let mut mounts = Mounts::open().unwrap();
        assert!(mounts.table().at(Path::new("/proc")).is_some());
        // Other tests mount things, but not all the time.
        while mounts.have_changed() {
            let table = mounts.reader().table().unwrap();
            mounts.set(table);
        }
    }
}
