//! A runtime as it is kept with the container that it has made.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RootVariables;

/// A runtime as it was found, and all arguments that go before its sub-commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// As it is told by State.
    pub name: String,
    /// Its absolute path.
    pub program: PathBuf,
    /// Go before every sub-command.
    pub args: Vec<String>,
    /// What its root depends on where the arguments name none. Earlier versions did not write it down.
    #[serde(default)]
    pub variables: Option<RootVariables>,
}
