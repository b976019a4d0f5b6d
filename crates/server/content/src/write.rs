//! Writes under way.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use gantry_disk::MayWait;
use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_store::{Algorithm, Beginning, Digest, Ingest, NewIngest};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Content, ContentError, MAX_WRITERS,
    hash::Hasher,
    layout::{self, open_ingest},
    locks::Held,
    one_of,
};

/// A write that nobody continues is given up after this time, unless a lease keeps it.
const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A write that its holder has alone. What was written stays when this is dropped, for the caller that continues it.
pub struct Writer {
    pub(crate) content: Content,
    pub(crate) namespace: Namespace,
    pub(crate) reference: String,
    pub(crate) lease: Option<String>,
    pub(crate) data: Data,
    started_at: SystemTime,
    updated_at: SystemTime,
    _held: Held,
    _counted: OwnedSemaphorePermit,
}

/// What was written.
pub(crate) enum Data {
    File {
        file: Arc<File>,
        hasher: Box<Hasher>,
        offset: u64,
    },
    /// Nothing, as another namespace has the blob.
    Shared {
        digest: Digest,
        size: u64,
    },
}

impl Content {
    /// Begins a write, or continues one: `total` is how many bytes it will be, 0 if that is not known. A lease
    /// keeps it, or the blob that is made of it.
    ///
    /// # Errors
    /// [`ContentError::Locked`] if another caller has it, [`ContentError::Exists`] if the namespace has the blob that
    /// is expected, which the lease keeps then; that there is no such lease, that the reference is too long, or that too many writes are open.
    pub async fn writer(
        &self,
        namespace: &Namespace,
        reference: String,
        total: u64,
        expected: Option<Digest>,
        lease: Option<String>,
    ) -> Result<Writer, ContentError> {
        let held = match self.0.references.hold(namespace, &reference) {
            Ok(held) => held,
            Err(locked) => {
                // The caller that has it may have committed it already. This one may count on the blob as well.
                let Some(expected) = expected else { return Err(locked) };
                let is_there = self.0.store.lease_blob(namespace, &expected, lease).await?;
                return Err(if is_there { ContentError::Exists(expected) } else { locked });
            }
        };
        let counted = one_of(&self.0.writers, MAX_WRITERS, "writes")?;
        let new = NewIngest {
            reference: reference.clone(),
            total,
            expected: expected.clone(),
            lease: lease.clone(),
            expires_at: SystemTime::now() + STALE_AFTER,
        };
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let (ingest, file) = self.begin(namespace, new).await?;
        let (data, written_at) = match (file, expected) {
            (None, Some(digest)) => {
                (Data::Shared { digest, size: ingest.total }, SystemTime::now())
            }
            (Some(file), _) => {
                let path = self.0.layout.ingest(namespace, &reference);
                self.0.files.run(move |_| resume(file, &path, algorithm)).await?
            }
            (None, None) => unreachable!("what is shared is expected"),
        };
        Ok(Writer {
            content: self.clone(),
            namespace: namespace.clone(),
            reference,
            lease,
            data,
            started_at: ingest.started_at,
            updated_at: ingest.started_at.max(written_at),
            _held: held,
            _counted: counted,
        })
    }

    /// Makes the record and the file; no file if another namespace has the blob.
    async fn begin(
        &self,
        namespace: &Namespace,
        new: NewIngest,
    ) -> Result<(Ingest, Option<File>), ContentError> {
        let path = self.0.layout.ingest(namespace, &new.reference);
        let expected = new.expected.clone();
        let change = self.0.order.begin().await?;
        let _nobody_aborts_it = self.0.ingests.lock(&path).await;
        let begun = match self.0.store.begin_ingest(namespace, new).await {
            Ok(Beginning::Begun(ingest)) => Ok(ingest),
            Ok(Beginning::Exists) => match expected {
                Some(digest) => Err(ContentError::Exists(digest)),
                None => unreachable!("what exists is expected"),
            },
            Err(error) => Err(error.into()),
        };
        reach(Point::ServerIngestBegun);
        let file = match &begun {
            Ok(ingest) if ingest.is_shared => {
                self.0.files.run(move |_| layout::remove(&path)).await.map(|()| None)
            }
            Ok(_) => self.0.files.run(move |_| open(&path)).await.map(Some),
            Err(_) => Ok(None),
        };
        reach(Point::ServerIngestMade);
        // A record without a file is in order.
        change.done();
        Ok((begun?, file?))
    }
}

fn open(path: &Path) -> Result<File, ContentError> {
    open_ingest(path).map_err(ContentError::io("open", path))
}

/// What was written before, and when.
fn resume(
    file: File,
    path: &Path,
    algorithm: Algorithm,
) -> Result<(Data, SystemTime), ContentError> {
    let failed = || ContentError::io("read", path);
    let written_at = file.metadata().and_then(|found| found.modified()).map_err(failed())?;
    let (hasher, offset) = Hasher::of_file(algorithm, &file).map_err(failed())?;
    let data = Data::File { file: Arc::new(file), hasher: Box::new(hasher), offset };
    Ok((data, written_at))
}

/// Gives the file the time of a change. The kernel's own is that of its last tick, some milliseconds ago, which may be
/// before the request.
fn note_time(file: &File) -> io::Result<SystemTime> {
    let now = SystemTime::now();
    file.set_modified(now)?;
    Ok(now)
}

impl Writer {
    /// How many bytes were written.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match &self.data {
            Data::File { offset, .. } => *offset,
            Data::Shared { size, .. } => *size,
        }
    }

    /// The digest of what was written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match &self.data {
            Data::File { hasher, .. } => hasher.digest(),
            Data::Shared { digest, .. } => digest.clone(),
        }
    }

    /// When it began.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// When it was written to last.
    #[must_use]
    pub fn updated_at(&self) -> SystemTime {
        self.updated_at
    }

    /// Drops what was written.
    ///
    /// # Errors
    /// If the file cannot be made or cut.
    pub async fn truncate(&mut self) -> Result<(), ContentError> {
        if let Data::Shared { .. } = &self.data {
            return self.unshare(None).await;
        }
        let path = self.path();
        let Data::File { file, hasher, offset } = &mut self.data else { return Ok(()) };
        let same = Arc::clone(file);
        let cut = move |_: &MayWait| {
            same.set_len(0)?;
            Ok(note_time(&same))
        };
        let cut = self.content.0.files.run(cut).await;
        let noted = cut.map_err(ContentError::io("cut", &path))?;
        // It is cut, also if the time cannot be noted.
        (**hasher, *offset) = (Hasher::new(hasher.algorithm()), 0);
        self.updated_at = noted.map_err(ContentError::io("set the time of", &path))?;
        Ok(())
    }

    /// Writes data behind what was written. After an error the file may have a part of it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn write(&mut self, data: Vec<u8>) -> Result<(), ContentError> {
        if data.is_empty() {
            return Ok(());
        }
        if let Data::Shared { digest, .. } = &self.data {
            let blob = self.content.0.layout.blob(digest);
            self.unshare(Some(blob)).await?;
        }
        let path = self.path();
        let Data::File { file, hasher, offset } = &mut self.data else { return Ok(()) };
        let (same, at, mut so_far) = (Arc::clone(file), *offset, hasher.clone());
        let write = move |_: &MayWait| {
            same.write_all_at(&data, at)?;
            let updated_at = note_time(&same)?;
            so_far.update(&data);
            Ok::<_, io::Error>((so_far, at + data.len() as u64, updated_at))
        };
        let written = self.content.0.files.run(write).await;
        (*hasher, *offset, self.updated_at) = written.map_err(ContentError::io("write", &path))?;
        Ok(())
    }

    /// Gives it up, with what was written.
    ///
    /// # Errors
    /// That it was given up already.
    pub async fn abort(self) -> Result<(), ContentError> {
        self.content.abort(&self.namespace, &self.reference).await
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.content.0.layout.ingest(&self.namespace, &self.reference)
    }

    /// Goes on with a file of its own, which begins with what is in `blob`.
    async fn unshare(&mut self, blob: Option<PathBuf>) -> Result<(), ContentError> {
        let (path, shared) = (self.path(), &self.content.0);
        let algorithm = self.digest().algorithm();
        let change = shared.order.begin().await?;
        let nobody_aborts_it = shared.ingests.lock(&path).await;
        // It may have been given up.
        let is_there = shared.store.ingest(&self.namespace, &self.reference).await;
        let make = move |_: &MayWait| {
            if let Some(blob) = blob {
                fs::copy(&blob, &path).map_err(ContentError::io("copy", &blob))?;
            }
            resume(open(&path)?, &path, algorithm)
        };
        let made = match is_there {
            Ok(_) => shared.files.run(make).await,
            Err(error) => Err(error.into()),
        };
        drop(nobody_aborts_it);
        change.done();
        let (data, written_at) = made?;
        (self.data, self.updated_at) = (data, self.started_at.max(written_at));
        Ok(())
    }
}
