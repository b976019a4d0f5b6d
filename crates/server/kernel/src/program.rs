//! Which program a process executes.

use std::{fs, os::unix::fs::MetadataExt};

use serde::{Deserialize, Serialize};

/// The file that a process executes, see /proc/pid/exe in proc_pid_exe(5). A process has another one after execve(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    device: u64,
    inode: u64,
}

impl Program {
    /// Of a process; `None` if it has ended. The file system of that program may not answer.
    pub fn of(pid: u32) -> Option<Self> {
        let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some(Self { device: file.dev(), inode: file.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_executes_another_program_has_another_one() {
        #[allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let (own, other) = (Program::of(std::process::id()), Program::of(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own.is_some() && other.is_some() && own != other);
        assert_eq!(Program::of(child.id()), None);
    }
}
