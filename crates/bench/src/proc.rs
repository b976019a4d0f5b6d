//! Reads /proc about processes.

use std::{fs, path::Path};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid},
};

/// All processes.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes of a cgroup.
pub(crate) fn members(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether this text is in a process's arguments or working directory, and it is not this one.
pub(crate) fn mentions(pid: u32, text: &str) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    pid != std::process::id()
        && (String::from_utf8_lossy(&command).contains(text)
            || cwd.to_string_lossy().contains(text))
}

/// The processes that run this program for something that mentions `text`.
pub(crate) fn running(program: &str, text: &str) -> Vec<u32> {
    let is_it = |pid: &u32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        exe.file_name().is_some_and(|name| name == program) && mentions(*pid, text)
    };
    all().filter(is_it).collect()
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    all()
        .filter(|pid| field(&format!("/proc/{pid}/status"), "PPid:") == u64::from(parent))
        .collect()
}

pub(crate) fn has_children(pid: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.is_ok_and(|children| !children.is_empty())
}

/// KiB that no other process shares with it, and its proportional part of what is shared.
pub(crate) fn private_dirty_and_pss(pid: u32) -> (u64, u64) {
    let rollup = format!("/proc/{pid}/smaps_rollup");
    (field(&rollup, "Private_Dirty:"), field(&rollup, "Pss:"))
}

/// Resident KiB.
pub(crate) fn rss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Nanoseconds on a CPU (see schedstat in the kernel's sched-stats.rst) and context switches, of
/// all threads.
pub(crate) fn activity(pid: u32) -> (u64, u64) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let paths = threads.map(|thread| thread.path());
    paths.fold((0, 0), |(time, switches), thread| {
        let schedstat = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let on_cpu = schedstat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        let status = thread.join("status").to_string_lossy().into_owned();
        (time + on_cpu, switches + field(&status, "voluntary_ctxt_switches:"))
    })
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed())
        && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
    {
        // It may have ended by itself.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}

/// Waits until a process, a child or not, has ended. Blocks.
pub(crate) fn wait(pid: u32) {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return };
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
    }
    // Nothing of somebody else's child.
    let _ = waitpid(Some(pid), WaitOptions::empty());
}
