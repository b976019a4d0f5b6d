//! What the daemon has of its host: directories, containers, networks, mounts.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Error, Options, Result, netavark::Netavark, networks::Networks, start::mount::Mounts,
    store::Store,
};

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) networks: Networks,
    pub(crate) netavark: Netavark,
    pub(crate) mounts: Mounts,
    /// Held while addresses and ports are chosen and noted.
    pub(crate) reserving: Mutex<()>,
    /// Held while hosts files are put together and written: the last one written is the latest.
    pub(crate) hosts_files: Mutex<()>,
    /// Locked as long as the daemon lives.
    _lock: File,
}

impl Host {
    /// Opens the daemon's directories, which no other daemon may use.
    pub(crate) fn open(options: Options) -> Result<Host> {
        // Containers bring programs with the set-user-ID bit, which are not for the host's users.
        make_directory(&options.root, 0o700)?;
        let lock = lock(&options.root.join("lock"))?;
        make_directory(&options.run_dir.join("netns"), 0o755)?;
        let netavark_dir = options.run_dir.join("netavark");
        make_directory(&netavark_dir, 0o755)?;
        Ok(Host {
            store: Store::open(options.root.join("containers"))?,
            networks: Networks::open(options.root.join("networks"), options.subnets)?,
            netavark: Netavark::new(options.netavark.clone(), netavark_dir),
            mounts: Mounts::default(),
            reserving: Mutex::default(),
            hosts_files: Mutex::default(),
            options,
            _lock: lock,
        })
    }

    /// Where a container's network namespace is held.
    pub(crate) fn netns(&self, id: &str) -> PathBuf {
        self.options.run_dir.join("netns").join(id)
    }
}

fn make_directory(dir: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|error| Error::io("create", dir, error))
}

fn lock(path: &Path) -> Result<File> {
    let failed = |error| Error::io("lock, as the only daemon,", path, error);
    let file = File::create(path).map_err(failed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
    Ok(file)
}
