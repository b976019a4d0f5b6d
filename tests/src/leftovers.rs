//! What a container must not leave behind, and the cleaning up after a test that failed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use gantry_api::types::StateRequest;

use crate::{Runtime, cgroup, eventually, patiently, processes, service::Service};

/// How long a shim may take to leave after its container's last event, and an aborted runtime to
/// die: much longer than unread output is kept by default, which is 10 s, as the machine may be busy.
const GRACE: Duration = Duration::from_secs(60);

/// Checks that no container, process, mount, cgroup or runtime state is left.
///
/// # Panics
/// When there is one.
pub async fn assert_none(service: &Service, roots: &[(Runtime, PathBuf)]) {
    let mut api = service.api();
    let state = api.state(StateRequest::default());
    let containers = patiently("State", state).await.expect("State").into_inner().containers;
    let own = containers.iter().filter(|container| container.id.starts_with(&service.prefix));
    assert_eq!(own.count(), 0, "containers are left: {containers:?}");
    // These are gone before the last event is sent.
    assert_no_cgroup(service);
    for (runtime, root) in roots {
        let left = Runtime::list(root);
        assert!(left.is_empty(), "containers that {} still knows: {left:?}", runtime.name());
    }
    // Shims exit after it, and what was half made is removed step by step.
    let begin = Instant::now();
    loop {
        let left = others(service);
        let Some(process) = left.first() else { break };
        assert!(begin.elapsed() < 2 * GRACE, "processes are left: {left:?}");
        let gone = processes::ends_within(process.pid, GRACE).await;
        assert!(gone, "a process is left: {process:?}");
    }
    assert_no_mount(&service.work);
}

/// Checks that no cgroup of any container is left.
///
/// # Panics
/// When there is one.
pub fn assert_no_cgroup(service: &Service) {
    let left = cgroup::children(&service.cgroup);
    assert!(left.is_empty(), "cgroups are left: {left:?}");
}

/// Checks that the state directory holds nothing of a container.
///
/// # Panics
/// When it does.
pub async fn assert_no_state(state: &Path, service: &Service) {
    let bundles = fs::read_dir(service.work.join("bundles")).into_iter().flatten().flatten();
    let ids: Vec<_> = bundles.map(|entry| entry.file_name()).collect();
    let is_of_container =
        |path: &PathBuf| path.file_name().is_some_and(|name| ids.iter().any(|id| id == name));
    let nothing = || !walk(state).iter().any(is_of_container);
    // What was half made is removed in the background.
    eventually("no state of a container is left", nothing).await;
}

/// What is left in those directories of the state directory that hold something only while a container
/// lives, or is made or removed: `spares` shims may wait for the next process.
#[must_use]
pub fn in_state(state: &Path, spares: usize) -> Vec<String> {
    let usual = [
        ("containers/types", 0),
        ("quarantine", 0),
        ("removed", 0),
        ("remains", 0),
        ("trash", 0),
        ("new", spares),
    ];
    let mut left = Vec::new();
    for (directory, usual) in usual {
        let entries = fs::read_dir(state.join(directory)).into_iter().flatten().flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        if names.len() > usual {
            left.push(format!("{directory}: {names:?}"));
        }
    }
    left
}

fn assert_no_mount(work: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let work = work.to_str().expect("UTF-8");
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(work)).collect();
    assert!(left.is_empty(), "mounts are left: {left:?}");
}

/// Processes of this test other than the server.
fn others(service: &Service) -> Vec<processes::Found> {
    let mut found = processes::belonging_to(&service.work, &service.cgroup);
    let socket = service.socket.to_str().expect("UTF-8");
    found.retain(|process| !process.command.contains(&format!("unix://{socket}")));
    found.retain(|process| !process.command.contains("unix://sock"));
    // One waits for the next process, for as long as the server lives.
    if let Some(spare) = found.iter().position(processes::Found::is_spare_shim) {
        found.remove(spare);
    }
    found
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// Stands for the test's directory.
const WORK: &str = "(work)";

/// What the server has open for containers, to find what it forgets to close.
#[derive(Debug, Default)]
pub struct OpenFiles(BTreeMap<String, usize>);

impl OpenFiles {
    /// What `pid` has open now: how many of each kind. A server of another test, which works in another
    /// directory, may be compared with it.
    #[must_use]
    pub fn of(pid: u32, work: &Path) -> Self {
        let work = work.to_str().expect("UTF-8");
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors").flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy().replacen(work, WORK, 1);
            // Opened beside the start, which may be later than the first answer; held from then on.
            if target.ends_with("/root/metadata.redb") {
                continue;
            }
            *kinds.entry(target).or_default() += 1;
        }
        Self(kinds)
    }

    /// Checks that there are no more pidfds, eventfds and watches than before, and nothing below
    /// the test's directory but what was open at the start.
    ///
    /// # Panics
    /// When there are.
    pub async fn assert_unchanged(&self, pid: u32, work: &Path) {
        // The server closes some of them after the last event.
        let same = || self.more(pid, work).is_empty();
        if tokio::time::timeout(GRACE, eventually("descriptors are closed", same)).await.is_err() {
            panic!("descriptors are left: {:?}", self.more(pid, work));
        }
    }

    /// What there is more of than before.
    fn more(&self, pid: u32, work: &Path) -> BTreeMap<String, usize> {
        // A server opens its metadata beside its first answers.
        let kept = |kind: &str| kind.contains("events.") || kind.ends_with("/metadata.redb");
        let mut kinds = Self::of(pid, work).0;
        kinds.retain(|kind, count| {
            let watched = ["[pidfd]", "[eventfd]", "inotify"].iter().any(|k| kind.contains(k))
                || kind.starts_with("pipe:")
                || kind.contains("/sys/fs/cgroup")
                || kind.starts_with(WORK) && !kept(kind);
            watched && *count > self.0.get(kind).copied().unwrap_or_default()
        });
        kinds
    }
}

/// Kills and removes whatever a test has left, whether it failed or not. The server is dead.
pub fn clean_up(service: &Service, roots: &[(Runtime, PathBuf)]) {
    for _ in 0..100 {
        cgroup::thaw(&service.cgroup);
        let left = processes::belonging_to(&service.work, &service.cgroup);
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|process| processes::kill(process.pid));
        // This is no test any more, and there may be nobody to run a task.
        std::thread::sleep(Duration::from_millis(20));
    }
    for (runtime, root) in roots {
        Runtime::list(root).iter().for_each(|id| runtime.delete(root, id));
    }
    cgroup::remove(&service.cgroup);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let work = service.work.to_str().expect("UTF-8");
    // A mount's point is the fifth field, see proc(5); later ones may lie on earlier ones.
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with(work)) {
        let _ = Command::new("umount").args(["-l", point]).output();
    }
}
