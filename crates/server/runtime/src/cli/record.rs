//! The record of a runtime, kept with the container that the runtime has made.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RootVariables;

/// A runtime as it was found, and all arguments that go before its sub-commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// As State reports it.
    pub name: String,
    /// Its absolute path.
    pub program: PathBuf,
    /// Go before every sub-command.
    pub args: Vec<String>,
    /// What its root depends on where the arguments name none. Earlier versions did not record it.
    #[serde(default)]
    pub variables: Option<RootVariables>,
}
