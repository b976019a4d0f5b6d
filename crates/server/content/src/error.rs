//! Why something was not done.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gantry_domain::Kind;
use gantry_store::{Digest, StoreError};

/// Why something was not done. The messages are containerd's, where there are such.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ContentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("content {0}: already exists")]
    Exists(Digest),
    /// It is dropped: a client can write it again.
    #[error("content digest {0}: its file was damaged, and is removed: not found")]
    Damaged(Digest),
    #[error("ref {reference} locked for {since:?}: unavailable")]
    Locked { reference: String, since: Duration },
    #[error("read past object length {0} bytes")]
    PastEnd(u64),
    #[error("{reference:?} failed size validation: {actual} != {expected}: failed precondition")]
    Size { reference: String, actual: u64, expected: u64 },
    #[error("unexpected commit digest {actual}, expected {expected}: failed precondition")]
    Digest { actual: Digest, expected: Digest },
    #[error("there are {0} {1} of content under way: resource exhausted")]
    TooMany(usize, &'static str),
    #[error("the content is closed: unavailable")]
    Closed,
    #[error("no room for content: cannot {what} {path}: {cause}: resource exhausted", path = .path.display())]
    NoRoom { what: &'static str, path: PathBuf, cause: Arc<io::Error> },
    #[error("cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: Arc<io::Error> },
    #[error("cannot start a thread for content: {0}")]
    NoThread(Arc<io::Error>),
}

impl ContentError {
    /// What it means for the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Exists(_) => Kind::AlreadyExists,
            Self::Damaged(_) => Kind::NotFound,
            Self::Locked { .. } | Self::Closed => Kind::Unavailable,
            Self::PastEnd(_) => Kind::OutOfRange,
            Self::Size { .. } | Self::Digest { .. } => Kind::FailedPrecondition,
            Self::TooMany(..) | Self::NoRoom { .. } | Self::NoThread(_) => Kind::ResourceExhausted,
            Self::Io { .. } => Kind::Internal,
        }
    }

    /// The path of the request's field that is to blame.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        if let Self::Store(error) = self { error.field() } else { None }
    }

    /// What an error of a file means.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            let (path, kind, cause) = (path.to_owned(), cause.kind(), Arc::new(cause));
            match kind {
                StorageFull | QuotaExceeded | FileTooLarge => Self::NoRoom { what, path, cause },
                _ => Self::Io { what, path, cause },
            }
        }
    }
}
