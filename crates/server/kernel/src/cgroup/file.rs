//! Reads and writes the small files of cgroupfs and procfs.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

use super::error::{CgroupError, present};

/// A directory of which many files are read: its path is looked up once, and not again for each file.
pub(super) struct OpenDir<'a> {
    path: &'a Path,
    /// None if there is no such directory.
    opened: Option<OwnedFd>,
}

impl<'a> OpenDir<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, CgroupError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = open(path, flags, Mode::empty());
        let opened = opened.map_err(|error| CgroupError::io("open", path, error.into()));
        Ok(Self { path, opened: present(opened)? })
    }

    /// # Errors
    /// [`CgroupError::Removed`] if there is no such directory.
    pub(super) fn open_existing(path: &'a Path) -> Result<Self, CgroupError> {
        let dir = Self::open(path)?;
        if dir.opened.is_some() { Ok(dir) } else { Err(CgroupError::Removed) }
    }

    /// Where a file of it is, for an error.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn file(&self, name: &str) -> Result<File, Errno> {
        let dir = self.opened.as_ref().ok_or(Errno::ENOENT)?;
        openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
    }
}

/// Reads files one after the other into the same buffer.
pub struct Reader {
    buffer: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        // Nearly all of the files fit in a page; memory.stat of v1 is the largest common one.
        Self { buffer: vec![0; 4096] }
    }
}

impl Reader {
    /// The whole file.
    pub fn read(&mut self, path: &Path) -> Result<&str, CgroupError> {
        let mut file = File::open(path).map_err(|error| CgroupError::io("open", path, error))?;
        self.fill(&|| path.to_owned(), false, |buffer, _| file.read(buffer))
    }

    /// A file of a directory, if there is one. It is one that the kernel shows in one piece, so that whatever leaves
    /// room in the buffer is all of it: not a list of processes.
    pub(super) fn piece(
        &mut self,
        dir: &OpenDir<'_>,
        name: &str,
    ) -> Result<Option<&str>, CgroupError> {
        let path = || dir.path_of(name);
        let opened = dir.file(name);
        let opened = opened.map_err(|error| CgroupError::io("open", &path(), error.into()));
        let Some(mut file) = present(opened)? else { return Ok(None) };
        present(self.fill(&path, true, |buffer, _| file.read(buffer)))
    }

    /// As [`Self::number`], of a directory.
    pub(super) fn number_of(
        &mut self,
        dir: &OpenDir<'_>,
        name: &str,
    ) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.piece(dir, name)? else { return Ok(None) };
        number(text, || dir.path_of(name))
    }

    /// The whole file as it is now, from a descriptor that stays open.
    pub(super) fn reread(&mut self, file: &File, path: &Path) -> Result<&str, CgroupError> {
        self.fill(&|| path.to_owned(), false, |buffer, offset| file.read_at(buffer, offset))
    }

    /// The whole file, if there is one.
    pub(super) fn read_present(&mut self, path: &Path) -> Result<Option<&str>, CgroupError> {
        present(self.read(path))
    }

    /// A file of one number, if there is one; "max" is `None` too.
    pub(super) fn number(&mut self, path: &Path) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.read_present(path)? else { return Ok(None) };
        number(text, || path.to_owned())
    }

    /// `piece`: what leaves room in the buffer is the whole file.
    fn fill(
        &mut self,
        path: &dyn Fn() -> PathBuf,
        piece: bool,
        mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
    ) -> Result<&str, CgroupError> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(2 * length, 0);
            }
            match read(&mut self.buffer[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(CgroupError::io("read", &path(), error)),
            }
            if piece && length < self.buffer.len() {
                break;
            }
        }
        let bytes = &self.buffer[..length];
        std::str::from_utf8(bytes)
            .map_err(|_| CgroupError::malformed(&path(), &String::from_utf8_lossy(bytes)))
    }
}

/// What a file of one number has; "max" is `None`.
fn number(text: &str, path: impl Fn() -> PathBuf) -> Result<Option<u64>, CgroupError> {
    match text.trim_ascii_end() {
        "max" => Ok(None),
        text => text.parse().map(Some).map_err(|_| CgroupError::malformed(&path(), text)),
    }
}

/// Writes a value in one call, as cgroupfs requires.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let file = OpenOptions::new().write(true).open(path);
    let mut file = file.map_err(|error| CgroupError::io("open", path, error))?;
    file.write_all(value.as_bytes()).map_err(|error| CgroupError::io("write", path, error))
}

/// The value of a key in a file of "key value" lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|&(name, _)| name == key).map(|(_, value)| value)
}

/// The pairs of a file of "key value" lines; what is no such pair is left out.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim_ascii().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cgroup.procs");
        let text = "4194303\n".repeat(5000);
        std::fs::write(&path, &text).unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.read(&path).unwrap(), text);
        std::fs::write(&path, "7\n").unwrap();
        assert_eq!(reader.number(&path).unwrap(), Some(7));
        assert_eq!(reader.number(&dir.path().join("none")).unwrap(), None);
    }

    #[test]
    fn files_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let long = "4194303\n".repeat(5000);
        for (name, text) in [("short", "7\n"), ("long", &long), ("empty", ""), ("bad", "x\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut reader = Reader::default();
        let opened = OpenDir::open(dir.path()).unwrap();
        assert_eq!(reader.piece(&opened, "long").unwrap(), Some(&*long));
        assert_eq!(reader.piece(&opened, "empty").unwrap(), Some(""));
        assert_eq!(reader.number_of(&opened, "short").unwrap(), Some(7));
        assert_eq!(reader.number_of(&opened, "none").unwrap(), None);
        let error = reader.number_of(&opened, "bad").unwrap_err().to_string();
        assert!(error.contains(&*dir.path().join("bad").to_string_lossy()), "{error}");
        let gone = dir.path().join("gone");
        assert_eq!(reader.piece(&OpenDir::open(&gone).unwrap(), "short").unwrap(), None);
        assert!(matches!(OpenDir::open_existing(&gone), Err(CgroupError::Removed)));
        OpenDir::open_existing(dir.path()).unwrap();
    }

    /// The longest file of statistics, with a buffer that it fits in and with one that it does not.
    #[test]
    fn a_piece_is_whole() {
        let hierarchies = crate::cgroup::Hierarchies::discover().unwrap();
        let (mount, _) = hierarchies.own_dir("memory").or(hierarchies.own_dir("")).unwrap();
        let opened = OpenDir::open(mount).unwrap();
        let keys = |buffer: usize| {
            let mut reader = Reader { buffer: vec![0; buffer] };
            let text = reader.piece(&opened, "memory.stat").unwrap().unwrap();
            pairs(text).map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        let whole = keys(1 << 20);
        assert!(whole.len() > 5);
        for buffer in [64, 1024, 4096] {
            assert_eq!(keys(buffer), whole);
        }
    }

    #[test]
    fn numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pids.max");
        std::fs::write(&path, "max\n").unwrap();
        assert_eq!(Reader::default().number(&path).unwrap(), None);
        std::fs::write(&path, "many\n").unwrap();
        let error = Reader::default().number(&path).unwrap_err();
        assert!(matches!(&error, CgroupError::Malformed { line, .. } if line == "many"), "{error}");
        assert!(error.to_string().contains("pids.max"), "{error}");
    }

    #[test]
    fn keys() {
        let text = "oom_kill_disable 0\nunder_oom 1\noom_kill 12\n";
        assert_eq!(keyed(text, "oom_kill"), Some(12));
        assert_eq!(keyed(text, "oom"), None);
    }
}
