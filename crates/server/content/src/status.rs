//! How far writes are.

use std::{io, path::Path, time::SystemTime};

use gantry_domain::Namespace;
use gantry_store::{Ingest, filter::Filters};

use crate::{Content, ContentError};

/// How far a write is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its record.
    pub ingest: Ingest,
    /// How many bytes were written.
    pub offset: u64,
    /// When it was written to last.
    pub updated_at: SystemTime,
}

/// A part of a list, in the order of references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusPage {
    /// Those that match; may be empty though there is a next page.
    pub statuses: Vec<Status>,
    /// After which reference the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}

impl Content {
    /// How far a write is.
    ///
    /// # Errors
    /// That there is no such write.
    pub async fn status(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<Status, ContentError> {
        let ingest = self.0.store.ingest(namespace, reference).await?;
        let path = self.0.layout.ingest(namespace, reference);
        self.0.files.run(move |_| look(ingest, &path)).await
    }

    /// How far the first writes are that match, or the first with a greater reference than `after`.
    ///
    /// # Errors
    /// As all calls.
    pub async fn statuses(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<StatusPage, ContentError> {
        let page = self.0.store.ingest_page(namespace, filters, after).await?;
        let path = |ingest: Ingest| {
            let path = self.0.layout.ingest(namespace, &ingest.reference);
            (ingest, path)
        };
        let ingests: Vec<_> = page.ingests.into_iter().map(path).collect();
        let look = |_: &gantry_disk::MayWait| -> Result<Vec<_>, _> {
            ingests.into_iter().map(|(ingest, path)| look(ingest, &path)).collect()
        };
        Ok(StatusPage { statuses: self.0.files.run(look).await?, after: page.after })
    }
}

fn look(ingest: Ingest, path: &Path) -> Result<Status, ContentError> {
    match path.metadata() {
        Ok(file) => {
            let written_at = file.modified().map_err(ContentError::io("look at", path))?;
            let updated_at = ingest.started_at.max(written_at);
            Ok(Status { ingest, offset: file.len(), updated_at })
        }
        // Nothing is written yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let offset = if ingest.is_shared { ingest.total } else { 0 };
            Ok(Status { offset, updated_at: ingest.started_at, ingest })
        }
        Err(error) => Err(ContentError::io("look at", path)(error)),
    }
}
