//! A file that appears whole or not at all, also if this command is killed: until the end it has no name.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, open},
    io::Errno,
};

use crate::{failure::Failure, ids};

/// The name of a file that is being written, which nobody else has until the file is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    /// In the same directory.
    temporary: PathBuf,
    file: File,
    /// The file has the temporary name already: not every file system has files without one.
    is_named: bool,
}

impl NewFile {
    /// A file that is to replace what has this path, if anything has.
    pub(crate) fn create(path: &Path) -> Result<NewFile, Failure> {
        let Some(name) = path.file_name() else {
            return Err(Failure::new(format!("{} is no name of a file", path.display())));
        };
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}", ids::random()?));
        let temporary = path.with_file_name(temporary);
        let opened = match unnamed(path) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                File::create_new(&temporary).map(|file| (file, true))
            }
            Err(errno) => Err(errno.into()),
            Ok(file) => Ok((file, false)),
        };
        let (file, is_named) = opened.map_err(|e| Failure::io(path.display(), &e))?;
        Ok(NewFile { path: path.to_owned(), temporary, file, is_named })
    }

    /// A further handle, to write with.
    pub(crate) fn writer(&self) -> Result<File, Failure> {
        self.file.try_clone().map_err(|e| self.failure(&e))
    }

    /// Gives it its name, now that all is written.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        if !self.is_named {
            // The kernel gives a file without a name one by way of this path only.
            let this = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, this, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW)
                .map_err(|errno| self.failure(&errno.into()))?;
            self.is_named = true;
        }
        fs::rename(&self.temporary, &self.path).map_err(|e| self.failure(&e))?;
        self.is_named = false;
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::io(self.path.display(), error)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_named {
            // Why there is no file was said already.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A file without a name in the directory of a path, see O_TMPFILE in open(2).
fn unnamed(path: &Path) -> Result<File, Errno> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    open(dir, flags, Mode::from_raw_mode(0o666)).map(File::from)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_in_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for text in ["first", "second"] {
            let new = NewFile::create(&path).unwrap();
            new.writer().unwrap().write_all(text.as_bytes()).unwrap();
            assert_ne!(fs::read_to_string(&path).unwrap_or_default(), text);
            new.finish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        drop(NewFile::create(&path).unwrap());
        // A directory cannot be replaced.
        fs::create_dir(&path).unwrap();
        NewFile::create(&path).unwrap().finish().unwrap_err();
        assert_eq!(names(dir.path()), ["a"]);
    }
}
