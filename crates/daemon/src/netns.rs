//! Network namespaces that live on their own, as ip-netns(8) makes them: a bind mount holds one.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::{Error, Result};

/// A namespace held by a file. Dropping it unmounts the file: the kernel removes the namespace with its
/// interfaces once no process is in it.
#[derive(Debug)]
pub(crate) struct NetworkNamespace {
    path: PathBuf,
}

impl NetworkNamespace {
    /// Makes a new namespace.
    pub(crate) fn create(path: PathBuf) -> Result<NetworkNamespace> {
        let namespace = NetworkNamespace::reserve(path)?;
        // unshare(2) concerns the calling thread only, so that takes one of its own.
        let made = thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                bind(Path::new("/proc/thread-self/ns/net"), &namespace.path)
            };
            let panicked = || io::Error::other("the thread has panicked");
            scope.spawn(make).join().unwrap_or_else(|_| Err(panicked()))
        });
        made.map_err(|error| Error::io("make network namespace", &namespace.path, error))?;
        Ok(namespace)
    }

    /// Holds a namespace that exists.
    pub(crate) fn hold(existing: &Path, path: PathBuf) -> Result<NetworkNamespace> {
        let namespace = NetworkNamespace::reserve(path)?;
        bind(existing, &namespace.path)
            .map_err(|error| Error::io("hold network namespace", existing, error))?;
        Ok(namespace)
    }

    /// Takes over one that was held by an earlier daemon.
    pub(crate) fn adopt(path: PathBuf) -> NetworkNamespace {
        NetworkNamespace { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn reserve(path: PathBuf) -> Result<NetworkNamespace> {
        File::create_new(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(NetworkNamespace { path })
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        // Not a mount: it was not made, or the host was restarted since.
        let unmounted = match umount2(&self.path, MntFlags::MNT_DETACH) {
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
            result => result.map_err(io::Error::from),
        };
        let removed = unmounted.and_then(|()| match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        });
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "network namespace not removed");
        }
    }
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}
