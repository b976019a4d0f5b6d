//! What outlives a boot, in the server's root directory: the store of metadata, content, snapshots, and the server's
//! UUID.
//!
//! Store and name are opened on a thread of their own, as the store reads all of its file and the disk may be slow or
//! away. Health answers meanwhile, and requests that need them wait. Content and snapshots are opened by who needs them
//! first: if they cannot be, that is the answer to requests about them, and everything else works.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
};

use gantry_content::{Content, ContentError};
use gantry_disk::{MeasuredThreads, ReadError, read_regular};
use gantry_kernel::{BOOT_ID, boot_id, if_there, mount::check_id_maps};
use gantry_snapshots::{SnapshotError, Snapshots};
use gantry_store::{Store, StoreError};
use tokio::sync::{OnceCell, oneshot};

/// Holds the server's UUID.
const UUID_FILE: &str = "uuid";

/// Directories that layers' trees are mounted on. They are always empty.
const MOUNT_PLACES: &str = "mounts";

/// Where it is tried whether mounts can have mapped ids.
const ID_MAPS_PROBE: &str = "id-maps-probe";

/// Directories of CRIU's images that callers have as content.
const CHECKPOINTS: &str = "checkpoints";

/// A new UUID at each read, see random(4).
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

/// The pid namespace of this process.
const PID_NAMESPACE: &str = "/proc/self/ns/pid";

/// Bytes of a UUID as text, as in RFC 9562.
const UUID_LENGTH: usize = 36;

/// More bytes than a file with a UUID has.
const MAX_FILE: u64 = 4096;

/// What is kept.
pub(crate) struct Metadata {
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    root: PathBuf,
    /// Tells this boot of the machine from others.
    boot: u64,
    content: OnceCell<Content>,
    snapshots: OnceCell<Snapshots>,
}

impl Metadata {
    pub(crate) async fn content(&self) -> Result<Content, ContentError> {
        let open = || Content::open(&self.root, self.store.clone(), self.boot);
        self.content.get_or_try_init(open).await.cloned()
    }

    pub(crate) async fn snapshots(&self) -> Result<Snapshots, SnapshotError> {
        let open = async || {
            let maps_ids = maps_ids(self.root.join(ID_MAPS_PROBE)).await;
            Snapshots::open(&self.root, self.store.clone(), maps_ids).await
        };
        self.snapshots.get_or_try_init(open).await.cloned()
    }

    /// The threads that wait for the disk of the content, if it is open.
    pub(crate) fn content_threads(&self) -> Option<MeasuredThreads> {
        self.content.get().map(Content::measure)
    }

    /// As [`Self::content_threads`], of the snapshots.
    pub(crate) fn snapshots_threads(&self) -> Option<MeasuredThreads> {
        self.snapshots.get().map(Snapshots::measure)
    }

    /// Where layers' trees are mounted, each call's apart from all others.
    pub(crate) fn mount_places(&self) -> PathBuf {
        self.root.join(MOUNT_PLACES)
    }

    /// Waits for changes under way, and closes all.
    pub(crate) async fn close(&self) {
        if let Some(content) = self.content.get() {
            content.close().await;
        }
        self.store.close().await;
    }
}

/// Where images of checkpoints are on their way into the content and out of it.
pub(crate) fn checkpoints(root: &Path) -> PathBuf {
    root.join(CHECKPOINTS)
}

/// Which server this is.
pub(crate) struct Identity {
    /// Made at its first start.
    pub(crate) uuid: String,
    pub(crate) pid: u32,
    /// The inode of the pid's namespace, see pid_namespaces(7).
    pub(crate) pid_namespace: u64,
}

/// Why the metadata cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    #[error("root: cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("root: {path} {problem}", path = .path.display())]
    Read { path: PathBuf, problem: ReadError },
    #[error("root: {0}")]
    Store(StoreError),
    #[error("root: the thread that opens the metadata has ended without an answer")]
    Bug,
}

/// Opens it in the directory `root`, which is made if it is not there. A damaged store is no error: an empty
/// one takes its place, and the log says so.
pub(crate) async fn open(root: PathBuf) -> Result<Metadata, MetadataError> {
    let (done, opened) = oneshot::channel();
    let path = root.clone();
    let started = thread::Builder::new().name("metadata".to_owned()).spawn(move || {
        // A server that stops does not wait for this.
        let _ = done.send(open_here(&root));
    });
    started.map_err(failed("start a thread for", &path))?;
    opened.await.unwrap_or(Err(MetadataError::Bug))
}

fn open_here(root: &Path) -> Result<Metadata, MetadataError> {
    // Other users can pass through it, as their containers will have files in it.
    let made = DirBuilder::new().recursive(true).mode(0o711).create(root);
    made.map_err(failed("make", root))?;
    let identity = Identity {
        uuid: uuid(root)?,
        pid: std::process::id(),
        pid_namespace: fs::metadata(PID_NAMESPACE)
            .map_err(failed("examine", Path::new(PID_NAMESPACE)))?
            .ino(),
    };
    let (store, recovery) = Store::open(root).map_err(MetadataError::Store)?;
    if let Some(quarantined) = &recovery.quarantined {
        tracing::error!(%recovery, "the metadata of containers is lost");
        for dir in [gantry_content::DIR, gantry_snapshots::DIR] {
            keep_files_of(quarantined, &root.join(dir))?;
        }
    }
    let (root, boot) = (root.to_owned(), boot()?);
    let (content, snapshots) = (OnceCell::new(), OnceCell::new());
    Ok(Metadata { store, identity, root, boot, content, snapshots })
}

/// Whether overlays in this file system can have files of other owners than on the disk. The log says why not.
async fn maps_ids(probe: PathBuf) -> bool {
    let (done, tried) = oneshot::channel();
    let path = probe.clone();
    let started = thread::Builder::new().name("id-maps".to_owned()).spawn(move || {
        // A server that stops does not wait for this.
        let _ = done.send(try_id_maps(&path));
    });
    let problem = match started {
        Ok(_) => match tried.await {
            Ok(Ok(())) => return true,
            Ok(Err(problem)) => problem,
            Err(_) => "the thread that tries it has ended without an answer".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    tracing::info!(problem, "snapshots are not mounted with mapped ids: no remap-ids");
    false
}

/// In a directory that is made for it.
fn try_id_maps(probe: &Path) -> Result<(), String> {
    let clear = || if_there(fs::remove_dir_all(probe)).map(drop).map_err(|error| error.to_string());
    // Of a server that was killed.
    clear()?;
    let made = DirBuilder::new().mode(0o700).create(probe);
    made.map_err(|error| error.to_string())?;
    let tried = check_id_maps(probe).map_err(|problem| problem.to_string());
    tried.and(clear())
}

/// Moves a directory of blobs or snapshots beside the metadata that named them: without that, they would count as left
/// over and be removed.
fn keep_files_of(quarantined: &Path, dir: &Path) -> Result<(), MetadataError> {
    let kept = dir.with_extension(quarantined.extension().unwrap_or_default());
    match fs::rename(dir, &kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("move", dir)(error)),
        _ => Ok(()),
    }
}

/// The first half of the UUID that the kernel has made of this boot.
fn boot() -> Result<u64, MetadataError> {
    let boot = boot_id().map_err(failed("read", Path::new(BOOT_ID)))?;
    let digits = boot.chars().filter_map(|digit| digit.to_digit(16)).take(16);
    Ok(digits.fold(0, |boot, digit| boot << 4 | u64::from(digit)))
}

/// The UUID in its file, or a new one if there is no valid one.
fn uuid(root: &Path) -> Result<String, MetadataError> {
    let path = root.join(UUID_FILE);
    match read_regular(&path, MAX_FILE) {
        Ok(content) => {
            let text = String::from_utf8_lossy(&content).trim().to_owned();
            if is_uuid(&text) {
                return Ok(text);
            }
            tracing::warn!(path = %path.display(), "holds no UUID; the server gets a new one");
        }
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(problem) => return Err(MetadataError::Read { path, problem }),
    }
    let made = read_regular(Path::new(RANDOM_UUID), MAX_FILE)
        .map_err(|problem| MetadataError::Read { path: RANDOM_UUID.into(), problem })?;
    let made = String::from_utf8_lossy(&made).trim().to_owned();
    write_whole(&path, &made).map_err(failed("write", &path))?;
    Ok(made)
}

fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LENGTH
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Writes a file that appears whole, and is synced to the disk.
fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.create(true).write(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MetadataError {
    move |cause| MetadataError::Io { what, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_name_stays_and_a_broken_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/root");
        let first = open(root.clone()).await.unwrap();
        assert!(is_uuid(&first.identity.uuid), "{}", first.identity.uuid);
        // Another server cannot have the same root.
        let error = open(root.clone()).await.err().unwrap().to_string();
        assert!(error.starts_with("root: ") && error.contains("another server"), "{error}");
        first.store.close().await;
        drop(first.store);
        let again = open(root.clone()).await.unwrap();
        assert_eq!(again.identity.uuid, first.identity.uuid);
        again.store.close().await;
        fs::write(root.join(UUID_FILE), "").unwrap();
        let other = open(root).await.unwrap();
        assert!(is_uuid(&other.identity.uuid) && other.identity.uuid != first.identity.uuid);
    }

    #[tokio::test]
    async fn files_are_kept_with_metadata_that_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = "overlayfs/snapshots/1/fs";
        fs::create_dir_all(dir.path().join(gantry_snapshots::DIR).join(snapshot)).unwrap();
        let blob = Path::new(gantry_content::DIR).join("blobs/sha256/blob");
        fs::create_dir_all(dir.path().join(&blob).parent().unwrap()).unwrap();
        fs::write(dir.path().join(&blob), "content").unwrap();
        fs::write(dir.path().join("metadata.redb"), "no such format").unwrap();
        open(dir.path().to_owned()).await.unwrap();
        assert!(dir.path().join("metadata.redb.corrupt-1").exists());
        assert!(!dir.path().join(&blob).exists());
        assert!(dir.path().join("content.corrupt-1/blobs/sha256/blob").exists());
        assert!(!dir.path().join(gantry_snapshots::DIR).exists());
        assert!(dir.path().join("snapshots.corrupt-1").join(snapshot).exists());
    }

    #[tokio::test]
    async fn a_root_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let root = file.path().join("root");
        let error = open(root.clone()).await.err().unwrap().to_string();
        assert!(error.contains(root.to_str().unwrap()), "{error}");
    }
}
