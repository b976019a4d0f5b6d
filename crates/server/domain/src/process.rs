//! What a process is to be: plain data, kept on disk as it is here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ProcessId;

/// A process as its caller described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Unique in its container.
    pub id: ProcessId,
    /// Its streams are a terminal, which is copied to and from `stdio`.
    pub terminal: bool,
    /// Of its terminal, from the first byte.
    pub console_size: Option<ConsoleSize>,
    /// Whom it runs as.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// In the container; empty for `/`.
    pub cwd: String,
    /// The ends of the caller's pipes.
    pub stdio: Stdio,
    /// Names such as `CAP_KILL`.
    pub capabilities: Vec<String>,
    /// Empty for that of the runtime's default.
    pub apparmor_profile: String,
    /// Empty for none.
    pub selinux_label: String,
    /// See prctl(2), PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// See setrlimit(2).
    pub rlimits: Vec<Rlimit>,
    /// The `process` object of the OCI runtime specification, where the caller gave that: it goes to the
    /// runtime as it is, and what describes the same above is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<String>,
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
            oci: None,
        }
    }

    /// About how many bytes of memory its fields have allocated, beside its own size.
    pub fn memory(&self) -> usize {
        let texts = [&self.args, &self.env, &self.capabilities].into_iter().flatten();
        let single = [&self.cwd, &self.apparmor_profile, &self.selinux_label];
        let limits = self.rlimits.iter().map(|limit| &limit.kind);
        let texts: usize = texts.chain(single).chain(limits).map(|text| text.len() + ITEM).sum();
        let oci = self.oci.as_ref().map_or(0, String::len);
        oci + texts + self.user.additional_gids.len() * size_of::<u32>()
    }
}

/// What a text in a list costs beside its bytes: its place, and what the allocator adds.
const ITEM: usize = 64;

/// Where a process's streams go; `None` is /dev/null. Each is the absolute path of a FIFO or a file, or [`Self::HELD`], or,
/// for output, a URI: `file:///path`, or `binary:///path?key=value` for a program that reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// What it reads.
    pub stdin: Option<PathBuf>,
    /// What it writes to.
    pub stdout: Option<PathBuf>,
    /// What it writes to; not with a terminal.
    pub stderr: Option<PathBuf>,
}

impl Stdio {
    /// In place of a path: the server makes a pipe, and holds its end of that for those who attach to the process.
    pub const HELD: &str = "gantry://";

    /// Whether the server holds a stream with this path.
    #[must_use]
    pub fn is_held(stream: Option<&Path>) -> bool {
        stream.is_some_and(|path| path.as_os_str() == Self::HELD)
    }

    /// Whether the server holds any of them.
    #[must_use]
    pub fn has_held(&self) -> bool {
        [&self.stdin, &self.stdout, &self.stderr].iter().any(|of| Self::is_held(of.as_deref()))
    }

    /// The name of the stream with this path: stdin, stdout or stderr.
    pub fn name_of(&self, path: &Path) -> &'static str {
        let named = [("stdin", &self.stdin), ("stdout", &self.stdout), ("stderr", &self.stderr)];
        let found = named.into_iter().find(|(_, of)| of.as_deref() == Some(path));
        found.map_or("stdio", |(name, _)| name)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
/// Whom a process runs as, in the container's user namespace.
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// A limit as in getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// RLIMIT_NOFILE and so on.
    pub kind: String,
    /// What is enforced.
    pub soft: u64,
    /// The ceiling of the soft limit.
    pub hard: u64,
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}
