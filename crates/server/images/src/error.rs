//! Why something was not done.

use gantry_content::ContentError;
use gantry_domain::Kind;
use gantry_store::{Digest, StoreError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ImageError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{text:?}: {problem}: invalid argument")]
    Digest { text: String, problem: &'static str },
    #[error("{digest} {problem}: invalid argument")]
    Document { digest: Digest, problem: String },
    #[error("{digest} is {size} bytes long, at most {most} are read: invalid argument")]
    LongDocument { digest: Digest, size: u64, most: u64 },
    #[error("{0} refers to too many documents, or through too many: invalid argument")]
    TooDeep(Digest),
    #[error("no match for platform in manifest {0}: not found")]
    NoPlatform(Digest),
    #[error("invalid reference {name:?}: {problem}: invalid argument")]
    Name { name: String, problem: &'static str },
}

impl ImageError {
    /// What it means for the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Content(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::NoPlatform(_) => Kind::NotFound,
            Self::Digest { .. }
            | Self::Document { .. }
            | Self::LongDocument { .. }
            | Self::TooDeep(_)
            | Self::Name { .. } => Kind::InvalidArgument,
        }
    }

    /// The path of the request's field that is to blame.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Content(error) => error.field(),
            Self::Store(error) => error.field(),
            _ => None,
        }
    }
}
