//! Images: names for content. What an image consists of is in its content, of which this knows nothing.

mod calls;
mod changes;
mod record;
pub(crate) mod table;

use std::{collections::BTreeMap, time::SystemTime};

pub(crate) use record::decode;
pub(crate) use table::delete;

use crate::Labels;

/// A name for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Unique in its namespace; any text, as a rule a reference as `docker.io/library/busybox:latest`.
    pub name: String,
    /// Without empty values in a stored image.
    pub labels: Labels,
    /// What it names.
    pub target: Descriptor,
    /// When it was created, by the server's clock unless its caller said another time.
    pub created_at: SystemTime,
    /// When it was created or updated last, likewise.
    pub updated_at: SystemTime,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: Labels::new(),
            target: Descriptor::default(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// Which content an image is, as in the OCI image specification. The namespace need not have that content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Not empty in a stored image.
    pub media_type: String,
    /// The text of a [`Digest`](crate::Digest) in a stored image.
    pub digest: String,
    /// In bytes; not 0 in a stored image.
    pub size: u64,
    /// Without empty values in a stored image.
    pub annotations: BTreeMap<String, String>,
}

/// A part of a list, in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagePage {
    /// Those that match; may be empty though there is a next page.
    pub images: Vec<Image>,
    /// After which name the next page begins. `None` at the end of the list.
    pub after: Option<String>,
}
