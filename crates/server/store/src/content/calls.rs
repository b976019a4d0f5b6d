//! The store's calls on content.

use gantry_domain::Namespace;

use super::{
    Beginning, Blob, BlobPage, ContentState, Ingest, IngestPage, NewBlob, NewIngest, blobs,
    ingests, state,
};
use crate::{
    Digest, Labels, Store, StoreError, filter::Filters, store::size_of_labels, tables::BLOBS,
    validate,
};

impl Store {
    /// What a namespace knows of a blob.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn blob(&self, namespace: &Namespace, digest: &Digest) -> Result<Blob, StoreError> {
        let (namespace, digest) = (namespace.clone(), digest.clone());
        self.0.read(move |transaction| blobs::get(transaction, &namespace, &digest)).await
    }

    /// The first blobs that match, or the first with a greater digest than `after`. A page has about 256 KiB,
    /// and is of one moment; the next one is of a later moment.
    ///
    /// # Errors
    /// As all calls.
    pub async fn blob_page(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<BlobPage, StoreError> {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        let page = move |read: &_| blobs::list(read, &namespace, &filters, after.as_deref());
        self.0.read(page).await
    }

    /// Takes from `labels` those that the paths `labels.KEY` of `mask` name, or all if there are none or one is
    /// `labels`; an empty value deletes. Gives the blob as it is then.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::NotFound`].
    pub async fn update_blob(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        labels: Labels,
        mask: Vec<String>,
    ) -> Result<Blob, StoreError> {
        let bytes = size_of_labels(&labels) + mask.iter().map(String::len).sum::<usize>();
        let (namespace, digest) = (namespace.clone(), digest.clone());
        let update = move |change: &_| blobs::update(change, &namespace, &digest, labels, &mask);
        self.0.write(bytes, update).await
    }

    /// Whether a namespace has a blob. If so, the lease keeps it from now on: it is not collected in between.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the blob is there, and no such lease.
    pub async fn lease_blob(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        lease: Option<String>,
    ) -> Result<bool, StoreError> {
        let (namespace, digest) = (namespace.clone(), digest.clone());
        let (here, same) = (namespace.clone(), digest.clone());
        let look = move |read: &redb::ReadTransaction| {
            blobs::is_there(&read.open_table(BLOBS)?, &here, &same)
        };
        // As a rule there is nothing to write.
        let is_there = self.0.read(look).await?;
        if !is_there || lease.is_none() {
            return Ok(is_there);
        }
        let add = move |change: &_| blobs::lease(change, &namespace, &digest, lease.as_deref());
        self.0.write(0, add).await
    }

    /// Takes a blob out of a namespace; the lease keeps it no longer. Whether no other namespace has it: then its file
    /// is nobody's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_blob(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        lease: Option<String>,
    ) -> Result<bool, StoreError> {
        let (namespace, digest) = (namespace.clone(), digest.clone());
        let delete = move |change: &_| blobs::delete(change, &namespace, &digest, lease.as_deref());
        self.0.release(delete).await
    }

    /// Takes a blob out of all namespaces: its file is not what it should be.
    ///
    /// # Errors
    /// As all calls.
    pub async fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let digest = digest.clone();
        self.0.release(move |change| blobs::drop_everywhere(change, &digest)).await
    }

    /// Begins a write, or continues one, unless the blob that is expected is there. The namespace is created
    /// with it, and the lease keeps it, or the blob.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the reference is too long; [`StoreError::NotFound`] if there is no such lease.
    pub async fn begin_ingest(
        &self,
        namespace: &Namespace,
        new: NewIngest,
    ) -> Result<Beginning, StoreError> {
        validate::text("ref", &new.reference)?;
        let (namespace, bytes) = (namespace.clone(), new.reference.len());
        self.0.write(bytes, move |change| ingests::begin(change, &namespace, &new)).await
    }

    /// The record of a write.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn ingest(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<Ingest, StoreError> {
        let (namespace, reference) = (namespace.clone(), reference.to_owned());
        self.0.read(move |transaction| ingests::get(transaction, &namespace, &reference)).await
    }

    /// As [`Store::blob_page`], of writes.
    ///
    /// # Errors
    /// As all calls.
    pub async fn ingest_page(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<IngestPage, StoreError> {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        let page = move |read: &_| ingests::list(read, &namespace, &filters, after.as_deref());
        self.0.read(page).await
    }

    /// Forgets a write.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_ingest(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<(), StoreError> {
        let (namespace, reference) = (namespace.clone(), reference.to_owned());
        self.0.release(move |change| ingests::delete(change, &namespace, &reference)).await
    }

    /// Turns a write into a blob. Whether it was made: the namespace may have
    /// it already.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] of labels; [`StoreError::NotFound`] if there is no such write or lease, or if
    /// nobody has a blob that was to be shared.
    pub async fn commit_blob(
        &self,
        namespace: &Namespace,
        new: NewBlob,
    ) -> Result<bool, StoreError> {
        validate::check_blob_labels(&new.labels)?;
        let (namespace, bytes) = (namespace.clone(), size_of_labels(&new.labels));
        self.0.write(bytes, move |change| blobs::commit(change, &namespace, &new)).await
    }

    /// What `name` makes of each write there is: of its namespace, as records have it, and its reference.
    ///
    /// # Errors
    /// As all calls.
    pub async fn ingest_names<T: Send + 'static>(
        &self,
        name: impl Fn(&str, &str) -> T + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        self.0.read(move |transaction| ingests::names(transaction, &name)).await
    }

    /// Which of these blobs nobody has.
    ///
    /// # Errors
    /// As all calls.
    pub async fn unknown_blobs(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        self.0.read(move |transaction| state::unknown_of(transaction, digests.clone())).await
    }

    /// Notes that a server has the files, in this boot; tells how they were left.
    ///
    /// # Errors
    /// As all calls.
    pub async fn open_content(&self, boot: u64) -> Result<ContentState, StoreError> {
        self.0.write(0, move |change| state::open(change, boot)).await
    }

    /// Notes that all records have their files, and that no server has these any more. `has_strays`: there are files of
    /// blobs without a record.
    ///
    /// # Errors
    /// As all calls.
    pub async fn close_content(&self, has_strays: bool) -> Result<(), StoreError> {
        self.0.write(0, move |change| state::close(change, has_strays)).await
    }

    /// Whether a blob's file was known to be whole in this epoch.
    ///
    /// # Errors
    /// As all calls.
    pub async fn is_blob_checked(&self, digest: &Digest, epoch: u64) -> Result<bool, StoreError> {
        let digest = digest.clone();
        self.0.read(move |transaction| state::is_checked(transaction, &digest, epoch)).await
    }

    /// Notes that it is.
    ///
    /// # Errors
    /// As all calls.
    pub async fn set_blob_checked(&self, digest: &Digest, epoch: u64) -> Result<(), StoreError> {
        let digest = digest.clone();
        self.0.write(0, move |change| state::set_checked(change, &digest, epoch)).await
    }
}
