//! What the service must know after a restart, as files.
//!
//! ```text
//! <root>/lock                                  held by the server
//! <root>/containers/<namespace>/<id>/
//!     container.json                           ContainerRecord
//!     processes/<process>/process.json         ProcessRecord, "init" and the execs
//!     processes/<process>/journalled           its start is in the journal
//!     processes/<process>/exit.json, ...       the shim's, see gantry-shim-proto
//! <root>/new/<number>/                         a process's directory that is not in its place yet
//! <root>/removed/<generation>/                 a container whose exit is about to be journalled
//! <root>/remains/<generation>/                 one whose exit was published, but not all of it is removed
//! <root>/boot.json                             the boot that all this is of
//! <root>/left_cgroups.json                     of ended containers, with others in them
//! <root>/io.containerd.runtime.v2.task/<namespace>/<id>/
//!                                              the bundle of a task
//! <root>/trash/                                what is being removed
//! <root>/quarantine/                           files that could not be read
//! ```
//!
//! Every file is written under another name and renamed, so that it is there whole or not at all;
//! and a directory that is removed is renamed first, so that it disappears whole.
//!
//! The disk can be slow, or not answer for a while. What touches it takes a [`MayWait`], which only the threads of
//! [`OwnFiles`] have: nothing of this can run where other containers would wait with it.

mod boot;
mod bundle;
mod dirs;
mod error;
mod file;
mod left_cgroups;
mod lock;
pub(crate) mod pipes;
mod record;
mod trash;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) use bundle::TaskBundle;
use dirs::Access;
pub(crate) use dirs::{ContainerDir, ProcessDir};
pub use error::StateError;
use error::failed;
use file::{create_dirs, create_private_dir, create_private_dirs, list};
use gantry_disk::{MayWait, OwnFiles};
use gantry_domain::{ContainerId, ContainerKey, Generation, Namespace};
use nix::{
    fcntl::Flock,
    sys::statfs::{TMPFS_MAGIC, fstatfs},
};
pub(crate) use record::{ContainerRecord, ProcessRecord, RestoreRecord};
use trash::Trash;

/// Of directories that are not in their place yet.
const NEW: &str = "new";
/// Of containers that are over and not completely removed.
const REMAINS: &str = "remains";

/// The state directory, locked against a second server. Clones are the same.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
    /// Where the containers are, as the kernel names it.
    canonical: Option<PathBuf>,
    access: Access,
    _lock: Arc<Flock<File>>,
}

/// Makes directories for processes.
#[derive(Debug)]
pub(crate) struct NewProcessDirs {
    parent: PathBuf,
    access: Access,
    count: AtomicU64,
}

impl StateDir {
    /// Makes the directory if it is not there, and takes its lock. Waits for its disk: to be called where nothing
    /// is served yet.
    ///
    /// # Errors
    /// If another server has it, or it cannot be written.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        let trash = root.join("trash");
        create_dirs(root, PASSABLE)?;
        require_own(root)?;
        let mode = fs::metadata(root).map_err(failed("examine", root))?.mode();
        // Earlier versions made the directory their own. What is secret in there is in private directories.
        if mode & PASSABLE != PASSABLE
            && let Err(error) = fs::set_permissions(root, Permissions::from_mode(mode | PASSABLE))
        {
            tracing::warn!(%error, path = %root.display(), "containers with user namespaces cannot reach their root file systems in there");
        }
        for dir in [&root.join("containers"), &root.join("removed"), &root.join(REMAINS), &trash] {
            create_private_dirs(dir)?;
        }
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        // Opening a pipe in its place would wait for a reader.
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(nix::libc::O_NONBLOCK).open(&path);
        let file = match file {
            // Then nothing can be created, but what runs can be watched.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                tracing::error!(%error, path = %path.display(), "the state cannot be written");
                File::open(&path)
            }
            other => other,
        };
        let file = file.map_err(failed("open", &path))?;
        let lock = lock::lock(file).map_err(failed("lock", &path))?;
        let lock = lock.ok_or_else(|| StateError::Locked(root.to_owned()))?;
        let sync = fstatfs(&*lock).map_or(true, |fs| fs.filesystem_type() != TMPFS_MAGIC);
        let trash = Trash::new(trash);
        let new = root.join(NEW);
        // Later this server's shims have directories there, too.
        let taken = trash.take(&new).or_else(|_| trash.take_all_in(&new));
        for swept in [trash.sweep(), taken] {
            if let Err(error) = swept {
                tracing::error!(%error, "files of an earlier server cannot be removed yet");
            }
        }
        let canonical = fs::canonicalize(root.join("containers")).ok();
        let files = OwnFiles::new().map_err(failed("start a thread for", root))?;
        let access = Access { files, trash, sync };
        Ok(Self { root: root.to_owned(), canonical, access, _lock: Arc::new(lock) })
    }

    /// Does something with it on a thread that may wait for the disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &MayWait) -> T + Send + 'static,
    ) -> T {
        let state = self.clone();
        self.access.files.run(move |wait| work(&state, wait)).await
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The threads that may wait for it.
    pub(crate) fn files(&self) -> OwnFiles {
        self.access.files.clone()
    }

    pub(crate) fn container(&self, key: &ContainerKey) -> ContainerDir {
        let path = self.root.join("containers").join(key.namespace.as_str()).join(key.id.as_str());
        self.container_dir(path)
    }

    /// The bundle of a task: nobody else's, as the namespace of `types.API` has none. An image goes with it.
    pub(crate) fn bundle(&self, key: &ContainerKey, image: Option<PathBuf>) -> TaskBundle {
        let namespaces = self.root.join(bundle::BUNDLES);
        let path = namespaces.join(key.namespace.name()).join(key.id.as_str());
        TaskBundle { path, image, trash: self.access.trash.clone() }
    }

    /// Where the runtime keeps the tasks of a namespace, if their caller does not say.
    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.root.join("runc")
    }

    /// The container whose directory a path is in.
    pub(crate) fn container_of(&self, path: &Path) -> Option<ContainerKey> {
        let root = self.canonical.as_deref()?;
        let mut names = path.strip_prefix(root).ok()?.iter().filter_map(|name| name.to_str());
        let namespace = Namespace::from_record(names.next()?)?;
        let id = ContainerId::parse(names.next()?).ok()?;
        Some(ContainerKey { namespace, id })
    }

    fn container_dir(&self, path: PathBuf) -> ContainerDir {
        ContainerDir { path, is_aside: false, access: self.access.clone() }
    }

    fn aside_dir(&self, path: PathBuf) -> ContainerDir {
        ContainerDir { is_aside: true, ..self.container_dir(path) }
    }

    pub(crate) fn new_process_dirs(&self) -> NewProcessDirs {
        NewProcessDirs {
            parent: self.root.join(NEW),
            access: self.access.clone(),
            count: AtomicU64::new(0),
        }
    }

    /// The containers that were there when the last server ended.
    pub fn containers(&self, _: &MayWait) -> Result<Vec<(ContainerKey, ContainerDir)>, StateError> {
        let mut found = Vec::new();
        for namespace in list(&self.root.join("containers"))? {
            let Some(namespace) = Namespace::from_record(&namespace) else { continue };
            for id in list(&self.root.join("containers").join(namespace.as_str()))? {
                if let Ok(id) = ContainerId::parse(&id) {
                    let key = ContainerKey { namespace: namespace.clone(), id };
                    let dir = self.container(&key);
                    found.push((key, dir));
                }
            }
        }
        Ok(found)
    }

    /// The containers whose id was free already, but whose exit may not be journalled.
    pub fn removed(&self, _: &MayWait) -> Result<Vec<ContainerDir>, StateError> {
        let path = self.root.join("removed");
        let dirs = list(&path)?;
        Ok(dirs.into_iter().map(|name| self.aside_dir(path.join(name))).collect())
    }

    /// Frees the container's id at once, and keeps what is known until its exit is journalled.
    pub(crate) fn set_aside(
        &self,
        dir: &ContainerDir,
        generation: Generation,
        _: &MayWait,
    ) -> Result<ContainerDir, StateError> {
        let path = self.root.join("removed").join(generation.0.to_string());
        fs::rename(&dir.path, &path).map_err(failed("set aside", &dir.path))?;
        Ok(self.aside_dir(path))
    }

    /// The containers whose exit was published, and of which something is left.
    pub fn remains(&self, _: &MayWait) -> Result<Vec<ContainerDir>, StateError> {
        let path = self.root.join(REMAINS);
        let dirs = list(&path)?;
        Ok(dirs.into_iter().map(|name| self.aside_dir(path.join(name))).collect())
    }

    /// Notes that the exit of a container that was set aside was published. It may be noted already.
    pub(crate) fn keep_remains(
        &self,
        dir: &ContainerDir,
        generation: Generation,
        _: &MayWait,
    ) -> Result<ContainerDir, StateError> {
        let path = self.root.join(REMAINS).join(generation.0.to_string());
        if dir.path != path {
            fs::rename(&dir.path, &path).map_err(failed("keep", &dir.path))?;
        }
        Ok(self.aside_dir(path))
    }

    /// Removes what is in the trash whenever a removal has failed, until it is gone.
    pub(crate) async fn keep_trash_empty(&self) {
        self.access.trash.keep_empty(&self.access.files).await;
    }

    /// Puts a file that cannot be read out of the way, for a person to look at.
    pub fn quarantine(
        &self,
        file: &Path,
        generation: Generation,
        _: &MayWait,
    ) -> Result<PathBuf, StateError> {
        let quarantine = self.root.join("quarantine");
        create_private_dirs(&quarantine)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = quarantine.join(format!("{}-{name}", generation.0));
        fs::rename(file, &path).map_err(failed("quarantine", file))?;
        Ok(path)
    }
}

/// Root of a user namespace has to pass through to the root file systems of tasks.
const PASSABLE: u32 = 0o711;

/// Refuses a directory that others could manipulate.
fn require_own(root: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(root).map_err(failed("examine", root))?;
    let own = nix::unistd::geteuid().as_raw();
    let why = if metadata.uid() != own {
        format!("it belongs to user {}, and this is user {own}", metadata.uid())
    } else if metadata.mode() & 0o002 != 0 {
        format!("everybody can write to it (mode {:o})", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(StateError::Unsafe { path: root.to_owned(), why })
}

impl NewProcessDirs {
    /// Does something on a thread that may wait for the disk.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MayWait) -> T + Send + 'static,
    ) -> T {
        self.access.files.run(work).await
    }

    pub(crate) fn create(&self, _: &MayWait) -> Result<ProcessDir, StateError> {
        create_private_dirs(&self.parent)?;
        loop {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let path = self.parent.join(count.to_string());
            match create_private_dir(&path) {
                // Of an earlier server, which could not be removed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => {
                    other.map_err(failed("create directory", &path))?;
                    return Ok(ProcessDir { path, access: self.access.clone() });
                }
            }
        }
    }
}
