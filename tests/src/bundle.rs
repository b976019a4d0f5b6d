//! OCI bundles: a busybox root file system and a config.json that a test can bend at will.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// Makes a root file system of a static busybox.
///
/// # Panics
/// When it cannot be made.
pub fn make_rootfs(root: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory)).expect("make a directory of the rootfs");
    }
    // A program of its own writes it: a file that a concurrent fork of this process holds open for
    // writing cannot be executed (ETXTBSY).
    let mut copy = Command::new(BUSYBOX);
    let copied = copy.args(["cp", BUSYBOX]).arg(root.join("bin/busybox")).status();
    assert!(copied.expect("run a static /bin/busybox").success(), "copy busybox");
    let list = Command::new(BUSYBOX).arg("--list").output().expect("list busybox's applets");
    for applet in String::from_utf8(list.stdout).expect("UTF-8").lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write passwd");
    fs::write(root.join("etc/group"), "root:x:0:\n").expect("write group");
}

/// A bundle that is not written yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its directory.
    pub directory: PathBuf,
    /// What config.json is to say.
    pub config: Value,
}

impl Bundle {
    /// A bundle whose container has namespaces of its own for everything but the network, and runs
    /// `sleep` for ever as root without capabilities.
    #[must_use]
    pub fn new(directory: PathBuf, rootfs: &Path, cgroup: &str) -> Self {
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": ["sleep", "1000000"],
                "env": ["PATH=/bin", "HOME=/root", "FROM=config"],
                "cwd": "/",
                "capabilities": {
                    "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]
                }
            },
            "root": { "path": rootfs, "readonly": false },
            "hostname": "gantry-test",
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
        });
        Self { directory, config }
    }

    /// Adds a namespace.
    pub fn add_namespace(&mut self, kind: &str) {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut();
        namespaces.expect("a list of namespaces").push(json!({ "type": kind }));
    }

    /// Writes the bundle to disk.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self) {
        fs::create_dir_all(&self.directory).expect("make the bundle's directory");
        let config = serde_json::to_vec_pretty(&self.config).expect("serialize config.json");
        fs::write(self.directory.join("config.json"), config).expect("write config.json");
    }
}
