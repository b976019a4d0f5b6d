//! Why the store did not do what it was asked to.

use std::{io, path::PathBuf, sync::Arc};

use gantry_domain::Kind;

use crate::filter::FilterError;

/// Why the store did not do what it was asked to. The messages are containerd's, where there are such.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    /// `field` is the path of the request's field that is to blame, as `container.runtime.name`.
    #[error("{message}: invalid argument")]
    Invalid { field: String, message: String },
    #[error("{0}: invalid argument")]
    Filter(#[from] FilterError),
    #[error("{0}: not found")]
    NotFound(String),
    #[error("{0}: already exists")]
    AlreadyExists(String),
    #[error("{0}: failed precondition")]
    FailedPrecondition(String),
    #[error("{0}: not implemented")]
    Unimplemented(String),
    #[error("too many requests are waiting for the metadata store: resource exhausted")]
    Busy,
    #[error("the store of metadata is closed: unavailable")]
    Closed,
    /// Nothing of what was to be written is there, and everything else still is.
    #[error("no room for the metadata in {}: {cause}: resource exhausted", .path.display())]
    NoRoom { path: PathBuf, cause: Arc<redb::Error> },
    /// Whether a change is there is not known if the disk failed while it was written.
    #[error("cannot read or write the metadata in {}: {cause}", .path.display())]
    Database { path: PathBuf, cause: Arc<redb::Error> },
    #[error("cannot open the metadata in {}: {cause}", .path.display())]
    Open { path: PathBuf, cause: Arc<io::Error> },
    #[error("the metadata in {} is in use by another server: unavailable", .path.display())]
    InUse { path: PathBuf },
    /// It is left as it is.
    #[error("the metadata in {} was written by a newer version (format {found}, known is {known})", .path.display())]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("cannot move the damaged metadata in {} out of the way: {cause}", .path.display())]
    Quarantine { path: PathBuf, cause: Arc<io::Error> },
    #[error("the record of {what} is damaged: {reason}")]
    Damaged { what: String, reason: &'static str },
    #[error("cannot start a thread for the metadata: {0}")]
    NoThread(Arc<io::Error>),
}

impl StoreError {
    /// What it means for the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::Filter(_) => Kind::InvalidArgument,
            Self::NotFound(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::FailedPrecondition(_) => Kind::FailedPrecondition,
            Self::Unimplemented(_) => Kind::Unimplemented,
            Self::Busy | Self::NoRoom { .. } | Self::NoThread(_) => Kind::ResourceExhausted,
            Self::Closed | Self::InUse { .. } => Kind::Unavailable,
            Self::Damaged { .. } | Self::Newer { .. } => Kind::DataLoss,
            Self::Database { cause, .. } if matches!(**cause, redb::Error::Corrupted(_)) => {
                Kind::DataLoss
            }
            Self::Database { .. } | Self::Open { .. } | Self::Quarantine { .. } => Kind::Internal,
        }
    }

    /// The path of the request's field that is to blame.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Filter(_) => Some("filters"),
            _ => None,
        }
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Whether the database does nothing more before it is opened again.
    pub(crate) fn stops_the_database(&self) -> bool {
        matches!(self, Self::NoRoom { .. } | Self::Database { .. })
    }
}
