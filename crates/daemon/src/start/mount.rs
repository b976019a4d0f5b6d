//! Mounts a container's root filesystem, once for all who need it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};

use crate::{Error, Result, container::Container, host::Host, model::RootSource};

/// How many need the root filesystem of a container, by id.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Mutex<HashMap<String, usize>>);

impl Mounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // A count is changed after the mount was, so a panic elsewhere cannot have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One user of a root filesystem. Dropping the last one unmounts it.
#[derive(Debug)]
pub(crate) struct RootMount {
    host: Arc<Host>,
    id: String,
    path: PathBuf,
    /// A directory that is used as it is was never mounted.
    is_mounted: bool,
}

/// Mounts the root filesystem unless it is mounted.
pub(crate) fn mount(host: &Arc<Host>, container: &Container) -> Result<RootMount> {
    let mut counts = host.mounts.lock();
    let count = counts.get(container.id()).copied().unwrap_or_default();
    if count == 0 {
        match &container.record().config.root.source {
            RootSource::Directory(directory) => check("root.directory", directory)?,
            RootSource::Layers(layers) => {
                layers.iter().try_for_each(|layer| check("root.layers", layer))?;
                mount_overlay(container, layers)?;
            }
        }
    }
    counts.insert(container.id().to_owned(), count + 1);
    drop(counts);
    Ok(guard(host, container))
}

/// Checks a directory: mount(2) and the runtime would not say which one is missing.
fn check(field: &'static str, directory: &Path) -> Result<()> {
    fs::read_dir(directory).map(drop).map_err(|error| Error::unusable(field, directory, error))
}

/// Takes over the mount that an earlier daemon has made.
pub(crate) fn adopt(host: &Arc<Host>, container: &Container) -> RootMount {
    *host.mounts.lock().entry(container.id().to_owned()).or_default() += 1;
    guard(host, container)
}

fn guard(host: &Arc<Host>, container: &Container) -> RootMount {
    let (path, is_mounted) = match container.record().config.root.source {
        RootSource::Directory(directory) => (directory, false),
        RootSource::Layers(_) => (container.root(), true),
    };
    RootMount { host: Arc::clone(host), id: container.id().to_owned(), path, is_mounted }
}

impl RootMount {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn release(&self) -> io::Result<()> {
        let mut counts = self.host.mounts.lock();
        if let Some(count) = counts.get_mut(&self.id)
            && *count > 1
        {
            *count -= 1;
            return Ok(());
        }
        counts.remove(&self.id);
        if self.is_mounted { unmount(&self.path) } else { Ok(()) }
    }
}

impl Drop for RootMount {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::warn!(path = %self.path.display(), %error, "root filesystem not unmounted");
        }
    }
}

/// Lays the layers under a directory that keeps what the container changes.
fn mount_overlay(container: &Container, layers: &[PathBuf]) -> Result<()> {
    let root = container.root();
    let (upper, work) = (container.dir().join("upper"), container.dir().join("work"));
    for dir in [&root, &upper, &work] {
        fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    }
    // Colons, commas and backslashes, which would need escapes, were refused at the creation.
    let layers = layers.iter().map(|layer| layer.display().to_string()).collect::<Vec<_>>();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.join(":"),
        upper.display(),
        work.display()
    );
    let mounted =
        mount_at(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&*options));
    mounted.map_err(|errno| {
        // Its directory was made for it alone. Best effort: the error that counts is the mount's.
        let _ = fs::remove_dir(&root);
        Error::io("mount root filesystem", &root, errno)
    })
}

/// Unmounts with MNT_DETACH: a process of the host that uses the mount does not prevent it.
fn unmount(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not mounted: the host was restarted since, or the daemon ended before the mount.
        Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        result => result?,
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
