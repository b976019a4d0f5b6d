//! Why something was not done.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::Kind;
use gantry_store::StoreError;

/// Why something was not done. The messages are containerd's, where there are such.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("snapshotter argument missing: invalid argument")]
    NoSnapshotter,
    #[error("snapshotter not loaded: {0}: invalid argument")]
    UnknownSnapshotter(String),
    /// The host cannot have it.
    #[error("snapshotter not loaded: {name}: {why}: invalid argument")]
    Unusable { name: &'static str, why: String },
    #[error(
        "failed to get {what}: requested snapshot {shown} not active or view: failed precondition"
    )]
    NotMountable { what: &'static str, shown: String },
    #[error(
        "failed to unmarshal snapshot ID mapped labels: {label} is {map:?}, must be ID:HOST-ID:COUNT with commas, and map the ID 0: invalid argument"
    )]
    IdMap { label: &'static str, map: String },
    #[error("a commit cannot give a snapshot another parent: not implemented")]
    OtherParent,
    #[error("the files of the snapshot lie deeper than {0} directories: failed precondition")]
    TooDeep(usize),
    #[error("no room for snapshots: cannot {what} {path}: {cause}: resource exhausted", path = .path.display())]
    NoRoom { what: &'static str, path: PathBuf, cause: Arc<io::Error> },
    #[error("cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: Arc<io::Error> },
    #[error("cannot start a thread for snapshots: {0}")]
    NoThread(Arc<io::Error>),
}

impl SnapshotError {
    /// What it means for the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::NoSnapshotter
            | Self::UnknownSnapshotter(_)
            | Self::Unusable { .. }
            | Self::IdMap { .. } => Kind::InvalidArgument,
            Self::NotMountable { .. } | Self::TooDeep(_) => Kind::FailedPrecondition,
            Self::OtherParent => Kind::Unimplemented,
            Self::NoRoom { .. } | Self::NoThread(_) => Kind::ResourceExhausted,
            Self::Io { .. } => Kind::Internal,
        }
    }

    /// The path of the request's field that is to blame.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Store(error) => error.field(),
            Self::NoSnapshotter | Self::UnknownSnapshotter(_) | Self::Unusable { .. } => {
                Some("snapshotter")
            }
            Self::OtherParent => Some("parent"),
            Self::IdMap { .. } => Some("labels"),
            _ => None,
        }
    }

    /// What an error of a file means.
    pub(crate) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |cause| {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            let cause = Arc::new(cause.into());
            match cause.kind() {
                StorageFull | QuotaExceeded | FileTooLarge => Self::NoRoom { what, path, cause },
                _ => Self::Io { what, path, cause },
            }
        }
    }
}
