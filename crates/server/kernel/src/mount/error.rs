//! What can go wrong with mounts.

use std::{fmt, io, path::PathBuf};

use gantry_domain::Mount;
use nix::errno::Errno;

use crate::Trouble;

/// One of the mounts of a list failed. Those before it were unmounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {mount}: {problem}{}", left_text(.left))]
pub struct MountError {
    /// Which.
    pub mount: Box<MountName>,
    /// Why.
    pub problem: MountProblem,
    /// Those before it that are still mounted, since they could not be unmounted either.
    pub left: Vec<MountName>,
}

impl MountError {
    /// Descriptors, memory or threads have run out: later it can succeed.
    pub fn is_scarce(&self) -> bool {
        let (MountProblem::System { cause, .. } | MountProblem::Kernel { cause, .. }) =
            &self.problem
        else {
            return false;
        };
        Trouble::of(cause) == Trouble::Scarce
    }
}

fn left_text(left: &[MountName]) -> String {
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    match left.as_slice() {
        [] => String::new(),
        left => format!("; still mounted: {}", left.join(", ")),
    }
}

/// Which mount of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountName {
    /// Its place in the list; the first is 1.
    pub number: usize,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted.
    pub from: String,
    /// Below the root file system; empty for that itself.
    pub target: String,
}

impl MountName {
    pub(super) fn new(number: usize, mount: &Mount) -> Self {
        Self {
            number,
            kind: mount.kind.clone(),
            from: mount.source.clone(),
            target: mount.target.clone(),
        }
    }
}

impl fmt::Display for MountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} (type {:?}, source {:?}", self.number, self.kind, self.from)?;
        if !self.target.is_empty() {
            write!(f, ", target {:?}", self.target)?;
        }
        f.write_str(")")
    }
}

/// Why something could not be mounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MountProblem {
    /// A step failed.
    #[error("{operation}: {cause}")]
    System { operation: &'static str, cause: io::Error },

    /// A step failed, and the kernel said more than an error number.
    #[error("{operation}: {cause} ({words})")]
    Kernel { operation: &'static str, cause: io::Error, words: String },

    /// An option or a type that needs more than a system call.
    #[error("{0} is not supported")]
    Unsupported(String),

    /// It was mounted without all of its options, and remains so.
    #[error("{problem}; still mounted, since it cannot be unmounted: {cause}")]
    Left { problem: Box<MountProblem>, cause: io::Error },

    /// More options than mount(2) takes.
    #[error("its options have {length} bytes, and the kernel takes {most}")]
    TooLong { length: usize, most: usize },
}

impl MountProblem {
    pub(super) fn of<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |cause| Self::System { operation, cause: cause.into() }
    }
}

/// Something stays mounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum UnmountError {
    /// The path is relative, or is the root, or ends in "..".
    #[error("{path:?} is not the absolute path of something that can be mounted on")]
    NotAPlace { path: PathBuf },

    /// The table of mounts, or the directory that the path is in.
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },

    /// A line of the table of mounts.
    #[error("/proc/thread-self/mountinfo has a line that is not understood: {line:?}")]
    Malformed { line: String },

    /// The kernel refused.
    #[error("cannot unmount {}: {cause}", mount_point.display())]
    Refused { mount_point: PathBuf, cause: io::Error },

    /// As fast as they are unmounted, others are mounted.
    #[error("mounts on {} or below keep appearing", path.display())]
    Endless { path: PathBuf },
}

impl UnmountError {
    pub(super) fn refused(mount_point: &std::path::Path, cause: Errno) -> Self {
        Self::Refused { mount_point: mount_point.to_owned(), cause: cause.into() }
    }
}
