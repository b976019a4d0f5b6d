//! Runtimes that are executed from memory.
//!
//! A container must not be able to write to the program of the runtime that enters it (CVE-2019-5736). Therefore
//! runc and crun first make a copy of themselves that nobody can change, at each call, and execute that, unless
//! they find that they were executed from such a copy. The server keeps one, as runc's own `memfd-bind` does.

use std::{
    collections::HashMap,
    ffi::CString,
    fs::{File, Metadata},
    io::{self, Read, Seek},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_disk::Disks;
use gantry_kernel::sealed_copy;

/// The programs that are known to look for the copy. Others may look for files beside their own.
const NAMES: [&str; 3] = ["runc", "crun", "docker-runc"];

/// How many copies are kept. A host has one or two runtimes.
const MAX_COPIES: usize = 4;

/// In bytes; runc has 10 to 15 million.
const MAX_SIZE: u64 = 64 << 20;

/// With these an executable begins that needs no interpreter; see elf(5).
const ELF: &[u8; 4] = b"\x7fELF";

/// Where SELinux is active. There the label of the program's file decides about what the process may do.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Copies of runtimes in memory. Clones are the same.
#[derive(Clone)]
pub struct InMemory(Option<Arc<Shared>>);

struct Shared {
    disks: Disks,
    copies: Mutex<HashMap<PathBuf, Copied>>,
}

/// What was made of a file.
struct Copied {
    version: Version,
    /// None if the file is executed where it is.
    copy: Option<Arc<OwnedFd>>,
}

/// What changes with the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl InMemory {
    /// Copies nothing where SELinux is active.
    #[must_use]
    pub fn new(disks: Disks) -> Self {
        if Path::new(SELINUX).exists() {
            return Self::never();
        }
        Self(Some(Arc::new(Shared { disks, copies: Mutex::default() })))
    }

    /// Has every runtime executed where it is.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    /// The copy of a runtime as it is now; `None` if it is to be executed where it is.
    pub async fn copy_of(&self, program: &Path) -> Option<Arc<OwnedFd>> {
        let shared = self.0.as_ref()?;
        let name = program.file_name()?.to_str()?;
        if !NAMES.contains(&name) {
            return None;
        }
        let copies = Arc::clone(shared);
        let copied = shared.disks.run("read", program, move |program| copies.copy_of(program));
        match copied.await {
            Ok(Ok(copy)) => copy,
            Ok(Err(error)) => {
                tracing::debug!(program = %program.display(), %error, "executed where it is");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "executed where it is");
                None
            }
        }
    }
}

impl Shared {
    fn copy_of(&self, program: &Path) -> io::Result<Option<Arc<OwnedFd>>> {
        let version = Version::of(&program.metadata()?);
        if let Some(copied) = self.copies().get(program)
            && copied.version == version
        {
            return Ok(copied.copy.clone());
        }
        let copy = match copy(program, version) {
            Ok(copy) => copy.map(Arc::new),
            // It is being replaced at this moment.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => {
                let program = program.display();
                tracing::info!(%program, %error, "a runtime cannot be executed from memory");
                None
            }
        };
        let mut copies = self.copies();
        copies.remove(program);
        if copies.len() >= MAX_COPIES {
            copies.clear();
        }
        copies.insert(program.to_owned(), Copied { version, copy: copy.clone() });
        Ok(copy)
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<PathBuf, Copied>> {
        // The map is whole after any panic: each change to it is a single call.
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` for a script and for what is too large. `UnexpectedEof` if it changes meanwhile.
fn copy(program: &Path, version: Version) -> io::Result<Option<OwnedFd>> {
    let mut file = File::open(program)?;
    let mut magic = [0; ELF.len()];
    if version.size > MAX_SIZE || file.read(&mut magic)? < magic.len() || magic != *ELF {
        return Ok(None);
    }
    file.rewind()?;
    let name = CString::new(program.file_name().unwrap_or_default().as_bytes())?;
    let copy = sealed_copy(&name, &mut file, version.size)?;
    if Version::of(&file.metadata()?) != version {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(copy))
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn content(copy: &OwnedFd) -> Vec<u8> {
        let mut file = File::from(copy.try_clone().unwrap());
        file.rewind().unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        content
    }

    #[tokio::test]
    async fn a_copy_is_made_once_and_again_when_the_program_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("runc");
        fs::write(&program, b"\x7fELF first").unwrap();
        let programs = InMemory::new(Disks::new().unwrap());
        let first = programs.copy_of(&program).await.unwrap();
        assert_eq!(content(&first), b"\x7fELF first");
        assert!(Arc::ptr_eq(&first, &programs.copy_of(&program).await.unwrap()));
        let new = dir.path().join("new");
        fs::write(&new, b"\x7fELF other").unwrap();
        fs::rename(&new, &program).unwrap();
        assert_eq!(content(&programs.copy_of(&program).await.unwrap()), b"\x7fELF other");
        assert_eq!(content(&first), b"\x7fELF first");
    }

    #[tokio::test]
    async fn what_may_need_its_own_file_is_executed_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let programs = InMemory::new(Disks::new().unwrap());
        for (name, content) in [("runc", "#!/bin/sh\n"), ("runsc", "\x7fELF"), ("crun", "")] {
            let program = dir.path().join(name);
            fs::write(&program, content).unwrap();
            assert!(programs.copy_of(&program).await.is_none(), "{name}");
        }
        assert!(programs.copy_of(&dir.path().join("docker-runc")).await.is_none());
        assert!(InMemory::never().copy_of(Path::new("/usr/sbin/runc")).await.is_none());
    }

    #[tokio::test]
    async fn few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let programs = InMemory::new(Disks::new().unwrap());
        for number in 0..2 * MAX_COPIES {
            let program = dir.path().join(number.to_string()).join("runc");
            fs::create_dir(program.parent().unwrap()).unwrap();
            fs::write(&program, b"\x7fELF").unwrap();
            assert!(programs.copy_of(&program).await.is_some());
        }
        assert!(programs.0.unwrap().copies().len() <= MAX_COPIES);
    }
}
