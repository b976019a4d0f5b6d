//! What a process is to be: plain data, kept on disk as it is here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ProcessId;

/// A process as its caller described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub id: ProcessId,
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub stdio: Stdio,
    pub capabilities: Vec<String>,
    pub apparmor_profile: String,
    pub selinux_label: String,
    pub no_new_privileges: bool,
    pub rlimits: Vec<Rlimit>,
}

impl ProcessSpec {
    /// A process of which only the id is known.
    pub fn unknown(id: ProcessId) -> Self {
        Self {
            id,
            terminal: false,
            console_size: None,
            user: User::default(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: String::new(),
            stdio: Stdio::default(),
            capabilities: Vec::new(),
            apparmor_profile: String::new(),
            selinux_label: String::new(),
            no_new_privileges: false,
            rlimits: Vec::new(),
        }
    }

    /// Bytes of memory that it has beside its own, about.
    pub fn memory(&self) -> usize {
        let texts = [&self.args, &self.env, &self.capabilities].into_iter().flatten();
        let single = [&self.cwd, &self.apparmor_profile, &self.selinux_label];
        let limits = self.rlimits.iter().map(|limit| &limit.kind);
        let texts: usize = texts.chain(single).chain(limits).map(|text| text.len() + ITEM).sum();
        texts + self.user.additional_gids.len() * size_of::<u32>()
    }
}

/// What a text in a list costs beside its bytes: its place, and what the allocator adds.
const ITEM: usize = 64;

/// Where a process's streams go; `None` is /dev/null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
}

impl Stdio {
    /// What the stream with this path is called.
    pub fn name_of(&self, path: &Path) -> &'static str {
        let named = [("stdin", &self.stdin), ("stdout", &self.stdout), ("stderr", &self.stderr)];
        let found = named.into_iter().find(|(_, of)| of.as_deref() == Some(path));
        found.map_or("stdio", |(name, _)| name)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
}

/// A limit as in getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// RLIMIT_NOFILE and so on.
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    pub width: u16,
    pub height: u16,
}
