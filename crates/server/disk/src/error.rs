//! Why work on a file system was not done.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::lane::Refused;

/// Work that was not done, or whose result came too late.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DiskError {
    #[error("cannot {what} {path}: its file system did not answer within {after:?}", path = .path.display())]
    Deadline { what: &'static str, path: PathBuf, after: Duration },
    #[error("cannot {what} {path}: too many calls wait for its file system", path = .path.display())]
    Full { what: &'static str, path: PathBuf },
    #[error("cannot {what} {path}: no thread for it: {cause}", path = .path.display())]
    NoThread { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("internal error: cannot {what} {path}", path = .path.display())]
    Bug { what: &'static str, path: PathBuf },
}

impl DiskError {
    pub(crate) fn refused(what: &'static str, path: &Path, refused: Refused) -> Self {
        let path = path.to_owned();
        match refused {
            Refused::Full => Self::Full { what, path },
            Refused::NoThread(cause) => Self::NoThread { what, path, cause },
            Refused::Lost => Self::Bug { what, path },
        }
    }
}
