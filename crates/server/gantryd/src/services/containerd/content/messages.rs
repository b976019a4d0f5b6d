//! Messages of what the store and the files know.

use gantry_api::containerd::content::{Info, Status};
use gantry_store::{Blob, Digest};

use crate::services::containerd::status::invalid;

/// The digest of a blob, as Info and Update refuse it.
pub(super) fn digest(field: &'static str, text: &str) -> Result<Digest, tonic::Status> {
    Digest::parse(text).map_err(|_| invalid(field, format!("{text:?} failed validation")))
}

/// As Delete refuses it.
pub(super) fn bare_digest(field: &'static str, text: &str) -> Result<Digest, tonic::Status> {
    Digest::parse(text).map_err(|problem| invalid(field, problem))
}

/// As Read refuses it.
pub(super) fn shown_digest(field: &'static str, text: &str) -> Result<Digest, tonic::Status> {
    Digest::parse(text).map_err(|problem| invalid(field, format!("{text}: {problem}")))
}

/// What a write expects, if it does. containerd finds out at the commit that it can expect no such thing.
pub(super) fn expected(text: &str) -> Result<Option<Digest>, tonic::Status> {
    if text.is_empty() {
        return Ok(None);
    }
    shown_digest("expected", text).map(Some)
}

pub(super) fn info(blob: Blob) -> Info {
    Info {
        digest: blob.digest.to_string(),
        size: signed(blob.size),
        created_at: Some(blob.created_at.into()),
        updated_at: Some(blob.updated_at.into()),
        labels: blob.labels,
    }
}

pub(super) fn status(status: gantry_content::Status) -> Status {
    let gantry_content::Status { ingest, offset, updated_at } = status;
    Status {
        started_at: Some(ingest.started_at.into()),
        updated_at: Some(updated_at.into()),
        r#ref: ingest.reference,
        offset: signed(offset),
        total: signed(ingest.total),
        expected: ingest.expected.map(|digest| digest.to_string()).unwrap_or_default(),
    }
}

/// No file is longer.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
