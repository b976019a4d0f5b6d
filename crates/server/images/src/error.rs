//! Why something was not done.

use std::io;

use gantry_content::ContentError;
use gantry_diff::ArchiveError;
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
    #[error("{root} refers to more than {most} things: invalid argument")]
    TooMuch { root: Digest, most: usize },
    #[error("the archive {0}: invalid argument")]
    Archive(String),
    /// In the words of whoever sends the archive.
    #[error("{0}: cancelled")]
    Cancelled(String),
    #[error("cannot start a thread for an archive: {0}")]
    Thread(io::Error),
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
            Self::Cancelled(_) => Kind::Cancelled,
            Self::Thread(_) => Kind::ResourceExhausted,
            Self::Digest { .. }
            | Self::Document { .. }
            | Self::LongDocument { .. }
            | Self::TooMuch { .. }
            | Self::Archive(_)
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

impl From<ArchiveError> for ImageError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(match error {
            ArchiveError::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                "ends before its end".to_owned()
            }
            ArchiveError::Io(cause) => format!("cannot be read: {cause}"),
            ArchiveError::Malformed(problem) => problem.to_owned(),
        })
    }
}
