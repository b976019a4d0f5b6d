//! The host's processes: which belong to a test, and when they are gone.

use std::{fs, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A process, as /proc shows it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its pid.
    pub pid: u32,
    /// Its name, see `comm` in proc(5).
    pub comm: String,
    /// Its arguments, separated by spaces.
    pub command: String,
}

impl Found {
    /// Whether it executes this program, which may be a copy in memory with another name; not what runc makes of
    /// itself for a container.
    #[must_use]
    pub fn is_program(&self, name: &str) -> bool {
        let mut words = self.command.split(' ');
        words.next().is_some_and(|program| Path::new(program).ends_with(name))
            && words.next() != Some("init")
    }

    /// Whether it is a shim that was started ahead and has no process yet.
    #[must_use]
    pub fn is_spare_shim(&self) -> bool {
        let cwd = fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        cwd.parent().is_some_and(|parent| parent.ends_with("state/new"))
    }
}

/// The pid of a shim that has a process, or makes one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn busy_shim(work: &Path, cgroup: &str) -> u32 {
    let is_it = |found: &Found| found.is_program("gantry-shim") && !found.is_spare_shim();
    belonging_to(work, cgroup).into_iter().find(is_it).expect("a shim").pid
}

/// Processes that mention `work` in their arguments, work below it, or are in a cgroup below
/// `cgroup`. Zombies are not counted: they have none of these.
#[must_use]
pub fn belonging_to(work: &Path, cgroup: &str) -> Vec<Found> {
    let work = work.to_str().expect("UTF-8");
    let inside = format!(":{cgroup}/");
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid: u32| {
            let command = command(pid)?;
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let belongs = command.contains(work)
                || cwd.starts_with(work)
                || cgroups.contains(&inside) && !command.is_empty();
            belongs.then(|| Found { pid, comm: comm(pid).unwrap_or_default(), command })
        })
        .collect()
}

/// The shim of a test's server that has no process yet.
#[must_use]
pub fn spare_shim(work: &Path, cgroup: &str) -> Option<Found> {
    belonging_to(work, cgroup).into_iter().find(Found::is_spare_shim)
}

/// A process's name.
#[must_use]
pub fn comm(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// A process's arguments, separated by spaces.
#[must_use]
pub fn command(pid: u32) -> Option<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&raw).replace('\0', " ").trim_end().to_owned())
}

/// A value such as `VmHWM` of /proc/pid/status, in KiB.
#[must_use]
pub fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in /proc/{pid}/status"))
}

/// Sends a signal to a process of the host.
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let pidfd = open(pid).unwrap_or_else(|| panic!("no process {pid} to signal"));
    pidfd_send_signal(&pidfd, signal).expect("signal a process");
}

/// Kills a process if it is there.
pub fn kill(pid: u32) {
    signal_if_there(pid, Signal::KILL);
}

/// Stops a process if it is there.
pub fn stop(pid: u32) {
    signal_if_there(pid, Signal::STOP);
}

fn signal_if_there(pid: u32, signal: Signal) {
    if let Some(pidfd) = open(pid) {
        let _ = pidfd_send_signal(&pidfd, signal);
    }
}

/// Waits until a process has ended; whether it has within the time.
pub async fn ends_within(pid: u32, time: Duration) -> bool {
    let Some(pidfd) = open(pid) else { return true };
    let waiting = tokio::task::spawn_blocking(move || {
        let timeout = time.try_into().expect("a time that poll(2) can wait");
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))
    });
    waiting.await.expect("no panic").is_ok_and(|ready| ready > 0)
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed())?;
    pidfd_open(pid, PidfdFlags::NONBLOCK).ok()
}
