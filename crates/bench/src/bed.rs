//! Where everything takes place: a work directory, bundles, cgroups, and the removal of them all.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::fs::fstatfs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::proc;

const BUSYBOX: &str = "/bin/busybox";
const CGROUPS: &str = "/sys/fs/cgroup";

/// See TMPFS_MAGIC in statfs(2).
const TMPFS: i64 = 0x0102_1994;

/// Its own directory and cgroup; dropping it ends what is in there and removes both.
pub(crate) struct Bed {
    work: TempDir,
    cgroup: String,
}

/// A container that can be made of a directory. One at a time.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) config: Value,
}

impl Bed {
    /// In memory, as `/run` is on a proper host: with a state directory on a disk, its speed would
    /// be measured.
    pub(crate) fn new() -> Result<Self> {
        let in_memory = |dir: &PathBuf| {
            let statfs = fs::File::open(dir).map(|dir| fstatfs(&dir));
            matches!(statfs, Ok(Ok(statfs)) if statfs.f_type == TMPFS)
        };
        let parent = ["/run", "/dev/shm"].map(PathBuf::from).into_iter().find(in_memory);
        Self::below(&parent.unwrap_or_else(std::env::temp_dir), "gantry-bench")
    }

    /// On a disk, where images are.
    pub(crate) fn on_disk() -> Result<Self> {
        Self::below(Path::new("/var/tmp"), "gantry-bench-disk")
    }

    /// `prefix` is no other bed's of this process: whatever is in a bed's cgroup ends with it.
    fn below(parent: &Path, prefix: &str) -> Result<Self> {
        let name = format!("{prefix}-{}", std::process::id());
        let work = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(parent);
        let work = work.with_context(|| format!("make {name} in {}", parent.display()))?;
        let bed = Self { work, cgroup: format!("/{name}") };
        bed.make_rootfs()?;
        Ok(bed)
    }

    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// A cgroup below its own.
    pub(crate) fn cgroup_of(&self, name: &str) -> String {
        format!("{}/{name}", self.cgroup)
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.work().join("rootfs")
    }

    fn make_rootfs(&self) -> Result<()> {
        let root = self.rootfs();
        for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs::create_dir_all(root.join(directory)).context("make the rootfs")?;
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).context("copy a static /bin/busybox")?;
        for applet in ["cat", "dd", "sh", "sleep", "true"] {
            symlink("busybox", root.join("bin").join(applet)).context("link an applet")?;
        }
        Ok(())
    }

    /// A bundle of a container with this id that runs these arguments.
    pub(crate) fn bundle(&self, id: &str, args: &[&str]) -> Result<Bundle> {
        self.changed_bundle(id, |config| config["process"]["args"] = json!(args))
    }

    /// A bundle with a change to its config.json.
    pub(crate) fn changed_bundle(
        &self,
        id: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Bundle> {
        let mut config = config(&self.rootfs(), &format!("{}/{id}", self.cgroup));
        change(&mut config);
        let path = self.work().join("bundles").join(id);
        fs::create_dir_all(&path).context("make a bundle")?;
        fs::write(path.join("config.json"), config.to_string()).context("write config.json")?;
        let process = config["process"].to_string();
        fs::write(path.join("process.json"), process).context("write process.json")?;
        Ok(Bundle { id: id.to_owned(), path, config })
    }
}

/// What a daemon asks for at the least: namespaces of its own for everything but the network, and
/// the usual mounts.
fn config(rootfs: &Path, cgroup: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sleep", "1000000"],
            "env": ["PATH=/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]
            }
        },
        "root": { "path": rootfs, "readonly": false },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {},
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ]
        }
    })
}

impl Drop for Bed {
    /// The servers are gone by now.
    fn drop(&mut self) {
        let roots = cgroup_roots().into_iter().map(|root| root.join(&self.cgroup[1..]));
        let groups: Vec<PathBuf> = roots.flat_map(|root| subtree(&root)).collect();
        let work = self.work().to_string_lossy().into_owned();
        // A frozen process does not die.
        for group in &groups {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let _ = fs::write(group.join("cgroup.freeze"), "0");
        }
        // Shims leave when their process is gone, and a killed process takes its time.
        for attempt in 0..100 {
            let members = groups.iter().flat_map(|group| proc::members(group));
            let mut left: Vec<u32> = members.collect();
            if attempt > 20 {
                left.extend(proc::all().filter(|pid| proc::mentions(*pid, &work)));
            }
            left.iter().for_each(|pid| proc::kill(*pid));
            if left.is_empty() && !proc::all().any(|pid| proc::mentions(pid, &work)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for group in groups {
            let _ = fs::remove_dir(group);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| point.starts_with(&work)) {
            let _ = Command::new("umount").args(["-l", point]).output();
        }
    }
}

/// Each hierarchy of version 1, or the one of version 2.
fn cgroup_roots() -> Vec<PathBuf> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(CGROUPS)];
    }
    fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A directory and those in it, the innermost first.
fn subtree(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<_> = directories.flat_map(|entry| subtree(&entry.path())).collect();
    found.push(directory.to_owned());
    found
}
