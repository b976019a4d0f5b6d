//! What can go wrong with the state directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use gantry_disk::ReadError;
use gantry_kernel::Trouble;

/// An operation on the state directory that failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StateError {
    #[error("cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("{path} is damaged: {cause}", path = .path.display())]
    Damaged { path: PathBuf, cause: serde_json::Error },
    #[error("{path} is damaged: it {problem}", path = .path.display())]
    NoState { path: PathBuf, problem: ReadError },
    #[error("{path} is not safe to keep state in: {why}", path = .path.display())]
    Unsafe { path: PathBuf, why: String },
    #[error("{path} is in use by another server", path = .0.display())]
    Locked(PathBuf),
}

impl StateError {
    /// The file is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }

    /// Descriptors, memory or room have run out: later it can succeed.
    pub fn is_scarce(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if Trouble::of(cause) == Trouble::Scarce)
    }

    /// There is no room for it.
    pub(crate) fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { cause, .. } if [StorageFull, QuotaExceeded].contains(&cause.kind()))
    }

    /// The file whose content is damaged.
    pub(crate) fn damaged_file(&self) -> Option<&Path> {
        match self {
            Self::Damaged { path, .. } | Self::NoState { path, .. } => Some(path),
            _ => None,
        }
    }
}

pub(super) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StateError + 'a {
    move |cause| StateError::Io { what, path: path.to_owned(), cause }
}
