//! Removes blobs and writes.

use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_store::{Digest, StoreError};

use crate::{Content, ContentError, layout};

impl Content {
    /// Takes a blob out of a namespace; its file goes with the last one that has it. The lease keeps it no longer.
    ///
    /// # Errors
    /// That the namespace does not have it.
    pub async fn delete(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        lease: Option<String>,
    ) -> Result<(), ContentError> {
        let change = self.0.order.begin().await?;
        let _nobody_writes_it = self.0.blobs.lock(digest).await;
        let deleted = self.0.store.delete_blob(namespace, digest, lease).await;
        reach(Point::ServerBlobForgotten);
        if let Ok(true) = deleted {
            let path = self.0.layout.blob(digest);
            self.0.files.run(move |_| layout::remove(&path)).await?;
        }
        // After a failure of the disk it may be forgotten all the same.
        if deleted.is_ok() || is_refused(&deleted) {
            change.done();
        }
        Ok(deleted.map(drop)?)
    }

    /// Gives up a write. Whoever has it cannot commit it any more.
    ///
    /// # Errors
    /// That there is no such write.
    pub async fn abort(&self, namespace: &Namespace, reference: &str) -> Result<(), ContentError> {
        let change = self.0.order.begin().await?;
        let path = self.0.layout.ingest(namespace, reference);
        let _nobody_begins_it = self.0.ingests.lock(&path).await;
        let forgotten = self.0.store.delete_ingest(namespace, reference).await;
        reach(Point::ServerIngestForgotten);
        if forgotten.is_ok() {
            self.0.files.run(move |_| layout::remove(&path)).await?;
        }
        if forgotten.is_ok() || is_refused(&forgotten) {
            change.done();
        }
        Ok(forgotten?)
    }
}

/// Whether nothing has changed.
pub(crate) fn is_refused<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound(_) | StoreError::Busy | StoreError::Closed))
}
