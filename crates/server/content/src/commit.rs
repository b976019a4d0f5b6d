//! What ends a write: it becomes a blob.

use std::{
    io,
    path::{Path, PathBuf},
};

use gantry_failpoints::{Point, reach};
use gantry_store::{Digest, Labels, NewBlob, StoreError, check_blob_labels};

use crate::{
    Content, ContentError,
    change::Change,
    hash::Hasher,
    layout,
    write::{Data, Writer},
};

impl Writer {
    /// Makes a blob of what was written, if that has this size (0: any) and digest; gives the
    /// digest. The blob is on the disk then.
    ///
    /// # Errors
    /// [`ContentError::Size`] and [`ContentError::Digest`], after which the write can be continued;
    /// [`ContentError::Exists`] if the namespace has the blob, after which the write is gone, too; that the write was
    /// given up, or that labels are too long.
    pub async fn commit(
        self,
        size: u64,
        expected: Option<Digest>,
        labels: Labels,
    ) -> Result<Digest, ContentError> {
        check_blob_labels(&labels)?;
        let actual = self.offset();
        if size != 0 && size != actual {
            let reference = self.reference.clone();
            return Err(ContentError::Size { reference, actual, expected: size });
        }
        let digest = self.digest_like(expected.as_ref()).await?;
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(ContentError::Digest { actual: digest, expected });
        }
        let content = self.content.clone();
        let mut blob = NewBlob {
            reference: self.reference.clone(),
            digest: digest.clone(),
            size: actual,
            labels,
            lease: self.lease.clone(),
            checked: None,
        };
        let made = match &self.data {
            Data::Shared { .. } => {
                content.whole_file(&digest, actual).await?;
                let change = content.0.order.begin().await?;
                let _nobody_deletes_it = content.0.blobs.lock(&digest).await;
                let made = content.0.store.commit_blob(&self.namespace, blob).await;
                change.done();
                made?
            }
            Data::File { file, .. } => {
                let (file, path) = (file.clone(), self.path());
                let sync = move |_: &_| {
                    // A write that failed may have left more than was counted.
                    if file.metadata()?.len() > actual {
                        file.set_len(actual)?;
                    }
                    file.sync_all()
                };
                let synced = content.0.files.run(sync).await;
                synced.map_err(ContentError::io("sync", &path))?;
                reach(Point::ServerBlobSynced);
                blob.checked = Some(content.0.epoch);
                self.place(path, blob).await?
            }
        };
        if made { Ok(digest) } else { Err(ContentError::Exists(digest)) }
    }

    /// The digest of what was written, computed as another one is.
    async fn digest_like(&self, other: Option<&Digest>) -> Result<Digest, ContentError> {
        let digest = self.digest();
        let algorithm = other.map_or(digest.algorithm(), Digest::algorithm);
        let Data::File { file, .. } = &self.data else { return Ok(digest) };
        if algorithm == digest.algorithm() {
            return Ok(digest);
        }
        let file = file.clone();
        let hashed = self.content.0.files.run(move |_| Hasher::of_file(algorithm, &file)).await;
        let (hasher, _) = hashed.map_err(ContentError::io("read", &self.path()))?;
        Ok(hasher.digest())
    }

    /// Moves the file to where blobs are, and makes the record. Whether the blob is new to the namespace.
    async fn place(&self, from: PathBuf, blob: NewBlob) -> Result<bool, ContentError> {
        let shared = &self.content.0;
        let digest = blob.digest.clone();
        let to = shared.layout.blob(&digest);
        let change = shared.order.begin().await?;
        let _nobody_deletes_it = shared.blobs.lock(&digest).await;
        let (old, new) = (from.clone(), to.clone());
        match shared.files.run(move |_| layout::place(&old, &new)).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                change.done();
                let reference = format!("reference {}", self.reference);
                return Err(StoreError::NotFound(reference).into());
            }
            Err(error) => return Err(ContentError::io("move", &to)(error)),
        }
        reach(Point::ServerBlobPlaced);
        let made = shared.store.commit_blob(&self.namespace, blob).await;
        reach(Point::ServerBlobRecorded);
        match made {
            Ok(made) => {
                change.done();
                Ok(made)
            }
            Err(error) => {
                let is_given_up = matches!(error, StoreError::NotFound(_));
                let back = (!is_given_up).then_some(from);
                self.content.take_back(change, &digest, &to, back).await;
                Err(error.into())
            }
        }
    }
}

impl Content {
    /// After there could be no record of a blob: its file goes back to the write that it was made of, if that is
    /// still there, unless a namespace has the blob.
    async fn take_back(
        &self,
        change: Change,
        digest: &Digest,
        placed: &Path,
        back: Option<PathBuf>,
    ) {
        // If this fails as well, nobody knows what is recorded: the next server will.
        let Ok(unknown) = self.0.store.unknown_blobs(vec![digest.clone()]).await else { return };
        let placed = placed.to_owned();
        let moved = self.0.files.run(move |_| match back {
            _ if unknown.is_empty() => Ok(()),
            Some(back) => {
                layout::place(&placed, &back).map_err(ContentError::io("move back", &placed))
            }
            None => layout::remove(&placed),
        });
        match moved.await {
            Ok(()) => change.done(),
            Err(error) => {
                tracing::warn!(%error, "a file of content is left over until the next start");
            }
        }
    }
}
