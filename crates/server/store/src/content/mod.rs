//! Records of content: of blobs, and of writes under way. The bytes are in files, of which this knows
//! nothing but their names and sizes.
//!
//! # Epochs
//! A server that was not stopped may have left files that are not what they were: its machine may have lost
//! power. Each such end begins another epoch, and a file that was known to be whole in an earlier epoch has to
//! be checked before it is used ([`Store::is_blob_checked`]). No file is checked twice in an epoch, however
//! often the server is stopped and started.
//!
//! [`Store::is_blob_checked`]: crate::Store::is_blob_checked

mod blobs;
mod calls;
mod ingests;
mod state;

use std::time::SystemTime;

pub(crate) use blobs::{delete as delete_blob, owners_in};
pub(crate) use ingests::delete as delete_ingest;
pub use state::ContentState;

use crate::{Digest, Labels};

/// What blobs are called as resources of a lease.
const RESOURCE: &str = "content";

/// What writes are called as resources of a lease.
const INGEST_RESOURCE: &str = "ingests";

/// What a namespace knows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Without empty values.
    pub labels: Labels,
    /// When the namespace got it, by the server's clock.
    pub created_at: SystemTime,
    /// When it got it, or labels were changed.
    pub updated_at: SystemTime,
}

/// A part of a list, in the order of digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlobPage {
    /// Those that match; may be empty though there is a next page.
    pub blobs: Vec<Blob>,
    /// After which digest the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}

/// A write under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// Its name, unique in its namespace.
    pub reference: String,
    /// When it began.
    pub started_at: SystemTime,
    /// How many bytes it will be; 0 if nobody said.
    pub total: u64,
    /// The digest that it is to have, if the caller said.
    pub expected: Option<Digest>,
    /// Another namespace has the blob that is expected: as long as nothing is written, that blob counts as
    /// written, and `total` is its size.
    pub is_shared: bool,
    /// When it is stale, unless its lease keeps it. `None`: when its lease is gone.
    pub expires_at: Option<SystemTime>,
    /// The lease that keeps it; empty if none does.
    pub lease: String,
}

/// A part of a list, in the order of references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestPage {
    /// Those that match; may be empty though there is a next page.
    pub ingests: Vec<Ingest>,
    /// After which reference the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}

/// What is asked for when a write is begun, or continued.
#[derive(Debug, Clone)]
pub struct NewIngest {
    /// Its name, unique in its namespace.
    pub reference: String,
    /// How many bytes it will be; 0 if that is not known, or as was said before.
    pub total: u64,
    /// The digest that it is to have, if that is known.
    pub expected: Option<Digest>,
    /// A lease that is to keep it.
    pub lease: Option<String>,
    /// When it is stale, unless a lease keeps it.
    pub expires_at: SystemTime,
}

/// What the store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// There is such a write now.
    Begun(Ingest),
    /// The namespace has the blob that is expected.
    Exists,
}

/// The blob that is made of a write.
#[derive(Debug, Clone)]
pub struct NewBlob {
    /// Of which write.
    pub reference: String,
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Empty values are dropped.
    pub labels: Labels,
    /// A lease that is to keep it.
    pub lease: Option<String>,
    /// In which epoch its file is known to be whole. `None`: as is known of another namespace's blob, which
    /// this is.
    pub checked: Option<u64>,
}
