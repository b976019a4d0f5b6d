//! Why something was not done.

use std::{path::PathBuf, time::Duration};

use gantry_disk::DiskError;
use gantry_domain::Kind;
use gantry_store::Digest;

/// As much of what a registry says is in a message.
const MOST_SHOWN: usize = 400;

/// Why something was not done. Addresses are shown without their queries, which can hold secrets.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RegistryError {
    #[error("reference {reference:?} {problem}: invalid argument")]
    Reference { reference: String, problem: String },
    #[error("{path}: {problem}: invalid argument", path = .path.display())]
    Hosts { path: PathBuf, problem: String },
    /// Of those that the caller gives.
    #[error("header {name}: is one header too many: invalid argument")]
    Header { name: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("no host of {host} is configured to {what}: not found")]
    NoHost { host: String, what: &'static str },
    #[error("cannot prepare to ask registries: {0}")]
    NoThread(std::io::Error),
    #[error("the machine's certificate authorities cannot be used: {0}")]
    Roots(String),
    /// No answer came.
    #[error("{address}: {cause}")]
    Transport { address: String, cause: String, fault: Fault },
    #[error("{address}: no byte for {after:?}: unavailable")]
    Stalled { address: String, after: Duration },
    #[error("{method} {address}: unexpected status {status}{}", said(.detail))]
    Status {
        method: http::Method,
        address: String,
        status: http::StatusCode,
        detail: String,
        /// When to ask again, if the registry says so.
        retry_after: Option<Duration>,
    },
    #[error("{address}: not authorized: {problem}")]
    Unauthorized { address: String, problem: String },
    #[error("no credentials for {host}: {problem}")]
    Credentials { host: String, problem: String },
    /// The answer is not what the protocol allows.
    #[error("{address}: {problem}")]
    Answer { address: String, problem: String },
    #[error("{blob} has {actual} bytes at {address}, expected {expected}: failed precondition")]
    Size { blob: Digest, address: String, actual: u64, expected: u64 },
    #[error("{blob} has the digest {actual} at {address}: failed precondition")]
    Digest { blob: Digest, address: String, actual: Digest },
    #[error("{what} of {address} is larger than {limit} bytes: resource exhausted")]
    TooLarge { what: String, address: String, limit: u64 },
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection could not be made. Another attempt would hardly be luckier.
    Connect,
    /// Nobody listens at the address.
    Refused,
    /// The peer speaks TLS, but cannot be trusted, or does not want this client.
    Tls,
    /// Nobody answered in time.
    Late,
    /// The peer does not speak TLS, but probably http.
    Plain,
    /// The connection broke.
    Broken,
}

impl RegistryError {
    /// What it means for the caller; `None` if nothing more can be said than that it has failed.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Reference { .. } | Self::Hosts { .. } | Self::Header { .. } => {
                Kind::InvalidArgument
            }
            Self::NoHost { .. } => Kind::NotFound,
            Self::Status { status, .. } if *status == http::StatusCode::NOT_FOUND => Kind::NotFound,
            Self::Status { status, .. } if is_temporary(*status) => Kind::Unavailable,
            Self::Transport { .. } | Self::Stalled { .. } => Kind::Unavailable,
            Self::Size { .. } | Self::Digest { .. } => Kind::FailedPrecondition,
            Self::TooLarge { .. } | Self::NoThread(_) => Kind::ResourceExhausted,
            Self::Disk(DiskError::Deadline { .. }) => Kind::DeadlineExceeded,
            Self::Disk(DiskError::Full { .. } | DiskError::NoThread { .. }) => {
                Kind::ResourceExhausted
            }
            _ => return None,
        })
    }

    /// When to ask again, if the registry says so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether the same request can have another answer soon.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { fault, .. } => matches!(fault, Fault::Late | Fault::Broken),
            Self::Stalled { .. } => true,
            Self::Status { status, .. } => is_temporary(*status),
            _ => false,
        }
    }
}

/// Whether a registry says that it cannot answer now.
pub(crate) fn is_temporary(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// What a registry said, in so many words that they fit into a message.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim();
    let mut end = text.len().min(MOST_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < text.len() { "…" } else { "" };
    format!("{}{rest}", &text[..end])
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
