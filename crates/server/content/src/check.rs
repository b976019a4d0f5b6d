//! That a blob's file is what it should be.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

use gantry_store::{Digest, StoreError};

use crate::{Content, ContentError, hash::Hasher, layout};

impl Content {
    /// The file of a blob of this size, which is whole as far as can be known; one that is damaged is dropped.
    pub(crate) async fn whole_file(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<File, ContentError> {
        let is_checked = self.0.store.is_blob_checked(digest, self.0.epoch).await?;
        if is_checked && let Some(file) = self.sized_file(digest, size).await? {
            return Ok(file);
        }
        // One at a time: the others find what the first one has found out.
        let _checking = self.0.checks.lock(digest).await;
        let is_checked = self.0.store.is_blob_checked(digest, self.0.epoch).await?;
        let found = match is_checked {
            true => self.sized_file(digest, size).await?,
            false => self.undamaged_file(digest, size).await?,
        };
        let Some(file) = found else { return self.drop_damaged(digest, size).await };
        if !is_checked {
            self.0.store.set_blob_checked(digest, self.0.epoch).await?;
        }
        Ok(file)
    }

    /// The file, if it is there and has this size.
    async fn sized_file(&self, digest: &Digest, size: u64) -> Result<Option<File>, ContentError> {
        let path = self.0.layout.blob(digest);
        self.0.files.run(move |_| sized(&path, size)).await
    }

    /// The file, if it is there and has this size and its digest.
    async fn undamaged_file(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<File>, ContentError> {
        let (path, digest) = (self.0.layout.blob(digest), digest.clone());
        self.0.files.run(move |_| undamaged(&path, size, &digest)).await
    }

    /// Drops a blob that was found to be damaged, unless it was written again meanwhile.
    pub(crate) async fn drop_damaged(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<File, ContentError> {
        let change = self.0.order.begin().await?;
        let _nobody_writes_it = self.0.blobs.lock(digest).await;
        let again = self.undamaged_file(digest, size).await;
        if let Some(again) = again.transpose() {
            change.done();
            return again;
        }
        // It may have been deleted since the caller looked for it.
        let unknown = self.0.store.unknown_blobs(vec![digest.clone()]).await;
        if !matches!(&unknown, Ok(unknown) if unknown.is_empty()) {
            change.done();
            unknown?;
            return Err(StoreError::NotFound(format!("content digest {digest}")).into());
        }
        let path = self.0.layout.blob(digest);
        tracing::error!(%digest, path = %path.display(), "content is damaged; all namespaces lose it");
        self.0.store.drop_blob(digest).await?;
        self.0.files.run(move |_| layout::remove(&path)).await?;
        change.done();
        Err(ContentError::Damaged(digest.clone()))
    }
}

fn undamaged(path: &Path, size: u64, digest: &Digest) -> Result<Option<File>, ContentError> {
    let Some(file) = sized(path, size)? else { return Ok(None) };
    let hashed = Hasher::of_file(digest.algorithm(), &file);
    let (hasher, _) = hashed.map_err(ContentError::io("read", path))?;
    Ok((hasher.digest() == *digest).then_some(file))
}

fn sized(path: &Path, size: u64) -> Result<Option<File>, ContentError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ContentError::io("open", path)(error)),
    };
    let found = file.metadata().map_err(ContentError::io("look at", path))?;
    Ok((found.is_file() && found.size() == size).then_some(file))
}
