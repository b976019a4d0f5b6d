//! Reads a whole blob on a thread that may wait for the disk.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use gantry_domain::Namespace;
use gantry_store::Digest;
use tokio::sync::OwnedSemaphorePermit;

use crate::{Content, ContentError, hash::Hasher, read::Reader};

/// A blob that is read from its beginning. At its end its digest is compared: damaged data are an error, if a
/// late one.
pub struct BlockingReader {
    file: Arc<File>,
    at: u64,
    end: u64,
    digest: Digest,
    hasher: Hasher,
    _counted: OwnedSemaphorePermit,
}

impl Content {
    /// Opens a blob.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub async fn read_blocking(
        &self,
        namespace: &Namespace,
        digest: &Digest,
    ) -> Result<BlockingReader, ContentError> {
        let Reader { file, at, end, counted, .. } = self.read(namespace, digest, 0, None).await?;
        let (hasher, digest) = (Hasher::new(digest.algorithm()), digest.clone());
        Ok(BlockingReader { file, at, end, digest, hasher, _counted: counted })
    }

    /// Looks at a blob that somebody could not read to its end: one that is damaged is dropped.
    ///
    /// # Errors
    /// [`ContentError::Damaged`]; that the namespace does not have it, or it cannot be read.
    pub async fn check(&self, namespace: &Namespace, digest: &Digest) -> Result<(), ContentError> {
        let blob = self.0.store.blob(namespace, digest).await?;
        self.drop_damaged(digest, blob.size).await.map(drop)
    }
}

impl Read for BlockingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(into.len());
        if length == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut into[..length], self.at)?;
        self.hasher.update(&into[..count]);
        self.at += count as u64;
        let is_whole = self.at < self.end || self.hasher.digest() == self.digest;
        if count == 0 || !is_whole {
            let problem = format!("the file of {} is damaged", self.digest);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(count)
    }
}
