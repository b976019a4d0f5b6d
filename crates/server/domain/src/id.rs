//! Names of containers and processes, checked once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Namespace;

/// Longest id in bytes. It becomes a directory name, of which NAME_MAX is 255, and part of the
/// runtime's own file names.
const MAX_LENGTH: usize = 128;

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum InvalidId {
    #[error("must not be empty")]
    Empty,
    #[error("is {0} bytes long, at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    #[error("must not be \"{0}\"")]
    Dots(String),
    #[error("must not contain {0:?}: allowed are A-Z a-z 0-9 _ . + -")]
    Character(char),
    #[error("must not begin with '-'")]
    Dash,
}

fn check(id: &str) -> Result<(), InvalidId> {
    if id.is_empty() {
        return Err(InvalidId::Empty);
    }
    if id.len() > MAX_LENGTH {
        return Err(InvalidId::TooLong(id.len()));
    }
    if id == "." || id == ".." {
        return Err(InvalidId::Dots(id.to_owned()));
    }
    // It is an argument of the runtime's command line.
    if id.starts_with('-') {
        return Err(InvalidId::Dash);
    }
    match id.chars().find(|c| !c.is_ascii_alphanumeric() && !"_.+-".contains(*c)) {
        Some(c) => Err(InvalidId::Character(c)),
        None => Ok(()),
    }
}

/// A container's id, unique in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A process's id, unique among the living processes of its container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcessId(String);

impl ContainerId {
    /// # Errors
    /// If it cannot be the name of a directory, or is too long; see [`InvalidId`].
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        check(id).map(|()| Self(id.to_owned()))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProcessId {
    /// # Errors
    /// If it cannot be the name of a directory, or is too long; see [`InvalidId`].
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        check(id).map(|()| Self(id.to_owned()))
    }

    /// The container's first process.
    pub fn init() -> Self {
        Self("init".to_owned())
    }

    /// Whether it is the first process.
    pub fn is_init(&self) -> bool {
        self.0 == "init"
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidId;

    fn try_from(id: String) -> Result<Self, InvalidId> {
        check(&id).map(|()| Self(id))
    }
}

impl TryFrom<String> for ProcessId {
    type Error = InvalidId;

    fn try_from(id: String) -> Result<Self, InvalidId> {
        check(&id).map(|()| Self(id))
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl From<ProcessId> for String {
    fn from(id: ProcessId) -> Self {
        id.0
    }
}

/// What identifies a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The id in it.
    pub id: ContainerId,
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_directory_names_and_arguments() {
        for good in ["a", "0f", "web_1.2+x-y", "...", &"x".repeat(128)] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "ä", "a\n", "-rf", "\0", &"x".repeat(129)]
        {
            assert!(ProcessId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
