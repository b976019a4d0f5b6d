//! What a process is to be: plain data, kept on disk as it is here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ProcessId;

/// A process as its caller described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    pub(crate) id: ProcessId,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) user: User,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) stdio: Stdio,
    pub(crate) capabilities: Vec<String>,
    pub(crate) apparmor_profile: String,
    pub(crate) selinux_label: String,
    pub(crate) no_new_privileges: bool,
    pub(crate) rlimits: Vec<Rlimit>,
}

impl ProcessSpec {
    /// A process of which only the id is known.
    pub(crate) fn unknown(id: ProcessId) -> Self {
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
    pub(crate) fn memory(&self) -> usize {
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
pub(crate) struct Stdio {
    pub(crate) stdin: Option<PathBuf>,
    pub(crate) stdout: Option<PathBuf>,
    pub(crate) stderr: Option<PathBuf>,
}

impl Stdio {
    /// What the stream with this path is called.
    pub(crate) fn name_of(&self, path: &Path) -> &'static str {
        let named = [("stdin", &self.stdin), ("stdout", &self.stdout), ("stderr", &self.stderr)];
        let found = named.into_iter().find(|(_, of)| of.as_deref() == Some(path));
        found.map_or("stdio", |(name, _)| name)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
}

/// A limit as in getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// RLIMIT_NOFILE and so on.
    pub(crate) kind: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsoleSize {
    pub(crate) width: u16,
    pub(crate) height: u16,
}
