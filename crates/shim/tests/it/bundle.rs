//! A container to run: a bundle with busybox as its root file system, and runc's state of it.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_shim_proto::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LINGER_MS, Shim};

const BUSYBOX: &str = "/bin/busybox";
const RUNC: &str = "runc";

/// A bundle; its container is deleted with it.
pub(crate) struct Bundle {
    dir: TempDir,
    id: String,
    terminal: bool,
}

impl Bundle {
    /// A container that runs this shell script.
    pub(crate) fn new(script: &str, terminal: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("gantry-test-shim-{}-{count}", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("rootfs/bin");
        for name in ["bin", "proc", "dev"] {
            std::fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
        }
        // A program of its own writes it: a file that a concurrent fork of this process holds open for
        // writing cannot be executed (ETXTBSY).
        let copy = Command::new(BUSYBOX).args(["cp", BUSYBOX]).arg(bin.join("busybox")).status();
        assert!(copy.unwrap().success());
        for name in ["sh", "cat", "sleep", "stty", "grep", "head", "tr", "wc"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let spec = spec(&id, script, terminal).to_string();
        std::fs::write(dir.path().join("config.json"), spec).unwrap();
        Self { dir, id, terminal }
    }

    /// Runs something else than a shell.
    pub(crate) fn set_args(&self, args: &[&str]) {
        let path = self.path("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        spec["process"]["args"] = json!(args);
        std::fs::write(path, spec.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// runc with the options common to all of its commands.
    fn runc(&self, arguments: &[&str]) -> Vec<String> {
        let root = self.path("runc");
        let mut argv: Vec<String> = [RUNC, "--root", &root].map(str::to_owned).to_vec();
        argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
        argv
    }

    /// The launch of the container by this shim.
    pub(crate) fn run(&self, shim: &Shim) -> Launch {
        let bundle = self.path("");
        let pid_file = shim.path("pid").to_str().unwrap().to_owned();
        let mut arguments = vec!["run", "--detach", "--bundle", &bundle, "--pid-file", &pid_file];
        // Short enough for a socket address, however long the directory's own path is.
        let console = format!("/proc/{}/cwd/console.sock", shim.id());
        if self.terminal {
            arguments.extend(["--console-socket", &console]);
        }
        arguments.push(&self.id);
        let argv = self.runc(&arguments);
        Launch { argv, terminal: self.terminal, linger_ms: LINGER_MS, ..Launch::default() }
    }

    /// The launch of one more process in the container.
    pub(crate) fn exec(&self, shim: &Shim, script: &str) -> Launch {
        let pid_file = shim.path("pid").to_str().unwrap().to_owned();
        let arguments =
            ["exec", "--detach", "--pid-file", &pid_file, &self.id, "/bin/sh", "-c", script];
        Launch { argv: self.runc(&arguments), linger_ms: LINGER_MS, ..Launch::default() }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let argv = self.runc(&["delete", "--force", &self.id]);
        let _ = Command::new(&argv[0]).args(&argv[1..]).output();
    }
}

fn spec(id: &str, script: &str, terminal: bool) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666"],
            },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
            ],
        },
    })
}
