//! The sub-commands of a runtime that are called here.

use std::fmt;

/// A sub-command of a runtime, see runc(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the command line")]
pub enum Verb {
    Run,
    Create,
    Restore,
    Exec,
    Start,
    State,
    List,
    Pause,
    Resume,
    Update,
    Checkpoint,
    Delete,
    Version,
    Features,
}

impl Verb {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 14] = [
        Self::Run,
        Self::Create,
        Self::Restore,
        Self::Exec,
        Self::Start,
        Self::State,
        Self::List,
        Self::Pause,
        Self::Resume,
        Self::Update,
        Self::Checkpoint,
        Self::Delete,
        Self::Version,
        Self::Features,
    ];

    /// As it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Create => "create",
            Self::Restore => "restore",
            Self::Exec => "exec",
            Self::Start => "start",
            Self::State => "state",
            Self::List => "list",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Update => "update",
            Self::Checkpoint => "checkpoint",
            Self::Delete => "delete",
            Self::Version => "--version",
            Self::Features => "features",
        }
    }

    /// Whether it makes a container, and thereby takes an id.
    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Run | Self::Create | Self::Restore)
    }

    /// Whether it runs what the caller's config.json or process says.
    pub(super) fn runs_a_program(self) -> bool {
        self.creates() || matches!(self, Self::Exec | Self::Start)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
