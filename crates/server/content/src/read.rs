//! Reads blobs.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use gantry_disk::OwnFiles;
use gantry_domain::Namespace;
use gantry_store::Digest;
use tokio::sync::OwnedSemaphorePermit;

use crate::{Content, ContentError, MAX_READERS, one_of};

/// How much is read at a time.
const CHUNK: u64 = 256 << 10;

/// A part of a blob, which is read piece by piece. The blob may be deleted meanwhile.
pub struct Reader {
    pub(crate) file: Arc<File>,
    path: PathBuf,
    files: OwnFiles,
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) counted: OwnedSemaphorePermit,
}

impl Content {
    /// Reads a blob from `offset` on, at most `size` bytes.
    ///
    /// # Errors
    /// [`ContentError::PastEnd`]; that there is no such blob in the namespace, or none any more, as it was damaged.
    pub async fn read(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Reader, ContentError> {
        let blob = self.0.store.blob(namespace, digest).await?;
        if offset > blob.size {
            return Err(ContentError::PastEnd(blob.size));
        }
        let counted = one_of(&self.0.readers, MAX_READERS, "reads")?;
        let file = self.whole_file(digest, blob.size).await?;
        let end = size.map_or(blob.size, |size| offset.saturating_add(size).min(blob.size));
        Ok(Reader {
            file: Arc::new(file),
            path: self.0.layout.blob(digest),
            files: self.0.files.clone(),
            at: offset,
            end,
            counted,
        })
    }
}

impl Reader {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ContentError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let length = usize::try_from(CHUNK.min(self.end - at)).unwrap_or_default();
        let read = move |_: &gantry_disk::MayWait| {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at)?;
            Ok::<_, io::Error>(piece)
        };
        let piece = self.files.run(read).await.map_err(ContentError::io("read", &self.path))?;
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}
