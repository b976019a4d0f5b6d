//! Processes of which nothing is known but an argument.

use std::{ffi::OsStr, fs, io, os::unix::ffi::OsStrExt};

use crate::{PidFd, if_there};

/// The processes that were executed with an argument, see /proc/pid/cmdline in proc_pid_cmdline(5). One that has ended, and
/// one whose parent has not executed it yet, are none of these. To be called within a tokio runtime.
pub fn with_argument(argument: &OsStr) -> io::Result<Vec<PidFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if !has_argument(pid, argument)? {
            continue;
        }
        let Some(process) = if_there(PidFd::open(pid))? else { continue };
        // The pid may have become another's before it was opened.
        if has_argument(pid, argument)? && !process.has_ended() {
            found.push(process);
        }
    }
    Ok(found)
}

fn has_argument(pid: u32, argument: &OsStr) -> io::Result<bool> {
    let line = if_there(fs::read(format!("/proc/{pid}/cmdline")))?.unwrap_or_default();
    Ok(line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_the_argument_is_found_until_it_ends() {
        let argument = format!("of-{}", std::process::id());
        let found = |argument: &str| with_argument(argument.as_ref()).unwrap();
        #[allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read _", "sh", &argument])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(found(&argument[1..]).is_empty(), "a part of an argument");
        let process = found(&argument).pop().unwrap();
        drop(child.stdin.take());
        process.exited().await;
        assert!(found(&argument).is_empty(), "not reaped yet");
        child.wait().unwrap();
    }
}
