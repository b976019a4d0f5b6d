//! Why something was not done.

use std::io;

use gantry_domain::Kind;
use gantry_kernel::mount::{MountError, MountProblem, UnmountError};

use crate::archive::ArchiveError;

/// How many directories may lie in each other. While trees are compared each takes a descriptor or two.
pub(crate) const MAX_DEPTH: usize = 1000;

/// As much of a name is in a message, which has to go into an answer.
const MOST_SHOWN: usize = 1000;

/// Why a layer was not applied or made. Names are those of the archive, or paths.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DiffError {
    /// The layer is to blame.
    #[error("entry {name:?} {problem}")]
    Entry { name: String, problem: String },
    #[error("the archive {0}")]
    Archive(&'static str),
    #[error("the layer cannot be read: {0}")]
    Layer(io::Error),
    /// More than [`crate::Bounds`] allow, which are keys of the server's configuration.
    #[error(
        "entry {name:?} makes the layer larger than layer_max_size, {most} bytes: resource exhausted"
    )]
    TooLarge { name: String, most: u64 },
    #[error("entry {name:?} is beyond layer_max_entries, {most}: resource exhausted")]
    TooMany { name: String, most: u64 },
    #[error("the archive is larger than layer_max_size, {0} bytes: resource exhausted")]
    ArchiveTooLarge(u64),
    #[error("cancelled")]
    Cancelled,
    #[error("no room: cannot {what} {name:?}: {cause}: resource exhausted")]
    NoRoom { what: &'static str, name: String, cause: io::Error },
    #[error("cannot {what} {name:?}: {cause}")]
    Io { what: &'static str, name: String, cause: io::Error },
    #[error("the layer cannot be written: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot make mounts that only this call sees: {0}")]
    Private(MountProblem),
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    #[error("cannot start a thread for a layer: {0}")]
    Thread(io::Error),
}

impl DiffError {
    /// What it means for the caller; `None` if nothing more can be said than that it has failed.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Cancelled => Some(Kind::Cancelled),
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::ArchiveTooLarge(_) => {
                Some(Kind::ResourceExhausted)
            }
            Self::NoRoom { .. } | Self::Thread(_) => Some(Kind::ResourceExhausted),
            _ => None,
        }
    }

    /// A call failed for a file of this name.
    pub(crate) fn io<E: Into<io::Error>>(
        what: &'static str,
        name: impl AsRef<[u8]>,
    ) -> impl FnOnce(E) -> Self {
        move |cause| {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            let (cause, name) = (cause.into(), shown(name.as_ref()));
            match cause.kind() {
                StorageFull | QuotaExceeded | FileTooLarge => Self::NoRoom { what, name, cause },
                _ => Self::Io { what, name, cause },
            }
        }
    }

    pub(crate) fn entry(name: &[u8], problem: impl Into<String>) -> Self {
        Self::Entry { name: shown(name), problem: problem.into() }
    }

    pub(crate) fn too_deep(name: &[u8]) -> Self {
        Self::entry(name, format!("lies deeper than {MAX_DEPTH} directories"))
    }
}

impl From<ArchiveError> for DiffError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Archive("ends before its end")
            }
            ArchiveError::Io(cause) => Self::Layer(cause),
            ArchiveError::Malformed(problem) => Self::Archive(problem),
        }
    }
}

/// A name in a message.
pub(crate) fn shown(name: &[u8]) -> String {
    match name.get(..MOST_SHOWN) {
        Some(begin) if name.len() > MOST_SHOWN => format!("{}...", String::from_utf8_lossy(begin)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}
