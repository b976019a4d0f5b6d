//! What is stored.

use std::{collections::BTreeMap, time::SystemTime};

use crate::rfc3339;

/// The label of a lease that says when it ends, in RFC 3339.
pub const LABEL_EXPIRE: &str = "containerd.io/gc.expire";

/// Labels of an object, by key.
pub type Labels = BTreeMap<String, String>;

/// A message of a type that the store does not know: kept and given back byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnyValue {
    /// The name of the type, as its sender writes it.
    pub type_url: String,
    /// The message, in whatever encoding.
    pub value: Vec<u8>,
}

/// Which runtime a container is run by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// As `io.containerd.runc.v2`. Not empty in a stored container, and immutable.
    pub name: String,
    /// What is passed to it.
    pub options: Option<AnyValue>,
}

/// A container's metadata; it has no process of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Unique in its namespace.
    pub id: String,
    /// Without empty values in a stored container.
    pub labels: Labels,
    /// Name of its image, in whatever form.
    pub image: String,
    /// Which runtime it is run by.
    pub runtime: Runtime,
    /// Always there in a stored container.
    pub spec: Option<AnyValue>,
    /// Which snapshotter has its root filesystem. Immutable.
    pub snapshotter: String,
    /// Which snapshot that is.
    pub snapshot_key: String,
    /// When it was created, by the server's clock: what a caller says is ignored.
    pub created_at: SystemTime,
    /// When it was created or updated last, by the server's clock.
    pub updated_at: SystemTime,
    /// What clients keep with it.
    pub extensions: BTreeMap<String, AnyValue>,
    /// Which sandbox it belongs to. Immutable.
    pub sandbox: String,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            id: String::new(),
            labels: Labels::new(),
            image: String::new(),
            runtime: Runtime::default(),
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            extensions: BTreeMap::new(),
            sandbox: String::new(),
        }
    }
}

/// Keeps what its resources name from being collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Unique in its namespace.
    pub id: String,
    /// Without empty values.
    pub labels: Labels,
    /// When it was created, by the server's clock.
    pub created_at: SystemTime,
}

impl Lease {
    /// When it ends: what [`LABEL_EXPIRE`] says. `None` if it does not end; as in containerd, that is so, too,
    /// if the label is no time.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.labels.get(LABEL_EXPIRE).and_then(|text| rfc3339::parse(text))
    }
}

/// What a lease keeps. It need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// `content`, `images`, `ingests`, or `snapshots/` and the name of a snapshotter.
    pub kind: String,
    /// A digest, a name, a reference or a key.
    pub id: String,
}
