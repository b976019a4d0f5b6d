//! Reads and writes the small files of cgroupfs and procfs.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use super::error::{CgroupError, present};

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
        self.fill(path, |buffer, _| file.read(buffer))
    }

    /// The whole file as it is now, from a descriptor that stays open.
    pub(super) fn reread(&mut self, file: &File, path: &Path) -> Result<&str, CgroupError> {
        self.fill(path, |buffer, offset| file.read_at(buffer, offset))
    }

    /// The whole file, if there is one.
    pub(super) fn read_present(&mut self, path: &Path) -> Result<Option<&str>, CgroupError> {
        present(self.read(path))
    }

    /// A file of one number, if there is one; "max" is `None` too.
    pub(super) fn number(&mut self, path: &Path) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.read_present(path)? else { return Ok(None) };
        match text.trim_ascii_end() {
            "max" => Ok(None),
            text => text.parse().map(Some).map_err(|_| CgroupError::malformed(path, text)),
        }
    }

    fn fill(
        &mut self,
        path: &Path,
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
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CgroupError::io("read", path, error)),
            }
        }
        let bytes = &self.buffer[..length];
        std::str::from_utf8(bytes)
            .map_err(|_| CgroupError::malformed(path, &String::from_utf8_lossy(bytes)))
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
