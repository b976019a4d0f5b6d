//! The files that a shim leaves for a server that is not there at the moment.
//!
//! Both are one JSON object of unsigned integers, so that a person can read them. They are written
//! and read here without a JSON library: the shim is to stay small, and this is all it needs.

use crate::WaitStatus;

/// Identifies the process that a pid referred to: [`crate::STARTED_FILE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Pid in the shim's pid namespace.
    pub pid: u32,
    /// Start time in clock ticks after boot, field 22 of /proc/pid/stat, see proc(5).
    pub start_time: u64,
    /// Inode of a pidfd: unique to the process since Linux 6.9 (fs/pidfs.c), the same for
    /// all processes before.
    pub pidfd_inode: u64,
}

/// How a process ended: [`crate::EXIT_FILE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFile {
    /// How it ended.
    pub status: WaitStatus,
    /// When, in nanoseconds since the epoch.
    pub at: u64,
}

impl Identity {
    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!(
            "{{\"version\":{},\"pid\":{},\"start_time\":{},\"pidfd_inode\":{}}}\n",
            crate::VERSION,
            self.pid,
            self.start_time,
            self.pidfd_inode
        )
    }

    /// Reads the file's content; `None` if it is damaged.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        Some(Self {
            pid: number(text, "pid")?.try_into().ok()?,
            start_time: number(text, "start_time")?,
            pidfd_inode: number(text, "pidfd_inode")?,
        })
    }
}

impl ExitFile {
    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (key, value) = match self.status {
            WaitStatus::Code(code) => ("code", code),
            WaitStatus::Signal(signal) => ("signal", signal),
        };
        format!("{{\"version\":{},\"{key}\":{value},\"at\":{}}}\n", crate::VERSION, self.at)
    }

    /// Reads the file's content; `None` if it is damaged.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let status = match number(text, "code") {
            Some(code) => WaitStatus::Code(code.try_into().ok()?),
            None => WaitStatus::Signal(number(text, "signal")?.try_into().ok()?),
        };
        Some(Self { status, at: number(text, "at")? })
    }
}

/// The value of `"key":` in a flat object of numbers that was written to its end.
fn number(text: &str, key: &str) -> Option<u64> {
    let fields = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    fields.split(',').find_map(|field| {
        let (name, value) = field.split_once(':')?;
        (name.trim().trim_matches('"') == key).then(|| value.trim().parse().ok())?
    })
}
