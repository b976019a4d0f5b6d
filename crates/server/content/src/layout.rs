//! Where files are.
//!
//! ```text
//! content/blobs/sha256/<hex>   a blob, one for all namespaces that have it
//! content/ingest/<hex>         what was written up to now; named by a hash of namespace and reference
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use gantry_disk::MayWait;
use gantry_domain::Namespace;
use gantry_store::{Algorithm, Digest};

use crate::{ContentError, hash};

/// Name of the directory of all content, in the root of the server.
pub const DIR: &str = "content";

pub(crate) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// Names of files. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.join(DIR) }
    }

    /// Makes the directories. Nobody else reads what is in them.
    pub(crate) fn make(&self, _: &MayWait) -> Result<(), ContentError> {
        let blobs = ALGORITHMS.map(|algorithm| self.blobs(algorithm));
        for dir in blobs.iter().chain([&self.ingests()]) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(ContentError::io("make", dir))?;
        }
        // What is synced later is found below them.
        for dir in [self.root.join("blobs"), self.root.clone()] {
            sync_directory(&dir).map_err(ContentError::io("sync", &dir))?;
        }
        Ok(())
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn ingest(&self, namespace: &Namespace, reference: &str) -> PathBuf {
        self.ingests().join(hash::name_of(namespace.as_str(), reference).hex())
    }
}

/// Opens the file of a write, or makes it.
pub(crate) fn open_ingest(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Moves a file to where it stays.
pub(crate) fn place(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_directory)
}

/// One that is not there is removed.
pub(crate) fn remove(path: &Path) -> Result<(), ContentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ContentError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
