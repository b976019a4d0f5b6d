//! Many containers that do nothing, to be looked at; and the same of containerd and of conmon.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::Bench;
use crate::{
    bare::{Bare, succeed},
    bed::Bundle,
    gantry::Gantry,
    proc,
};

/// How many starts are under way at once.
const AT_ONCE: usize = 4;

/// Containers of the server under test.
pub(crate) struct Population {
    gantry: Gantry,
    pids: Vec<u32>,
}

impl Population {
    pub(crate) fn new(gantry: Gantry) -> Self {
        Self { gantry, pids: Vec::new() }
    }

    /// Id of a container by its number.
    pub(crate) fn id(number: usize) -> String {
        format!("sleeper-{number}")
    }

    /// Makes containers until there are this many.
    pub(crate) async fn grow(&mut self, bench: &Bench, size: usize) -> Result<()> {
        while self.pids.len() < size {
            let present = self.pids.len();
            let mut starts = Vec::new();
            for number in present..size.min(present + AT_ONCE) {
                let bundle = bench.bed.bundle(&Self::id(number), &["sleep", "1000000"])?;
                let gantry = self.gantry.clone();
                starts.push(tokio::spawn(async move { gantry.create(&bundle, None).await }));
            }
            for start in starts {
                let (pid, _) = start.await.context("a start")??;
                self.pids.push(pid);
            }
        }
        Ok(())
    }

    /// Goes on with another connection, to a server that has reattached to them.
    pub(crate) fn reconnect(&mut self, gantry: Gantry) {
        self.gantry = gantry;
    }

    /// Ends them all.
    pub(crate) async fn end(self) -> Result<()> {
        self.pids.iter().for_each(|pid| proc::kill(*pid));
        while self.gantry.state().await? > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Bundles of containers beside the server's.
pub(crate) fn others(bench: &Bench, subject: &str, count: usize) -> Result<Vec<Bundle>> {
    let id = |number| format!("{subject}-{number}");
    (0..count).map(|number| bench.bed.bundle(&id(number), &["sleep", "1000000"])).collect()
}

/// Has a conmon make and watch a container; the pid of conmon.
pub(crate) fn conmon(runtime: &Bare, bundle: &Bundle) -> Result<u32> {
    let pid_file = bundle.path.join("conmon-pid");
    let path = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", runtime.name]).output();
    let path = String::from_utf8(path.context("find the runtime")?.stdout)?;
    let mut command = Command::new("conmon");
    command.args(["--api-version", "1", "-c", &bundle.id, "-u", &bundle.id, "-r", path.trim()]);
    for word in runtime.root_arguments() {
        command.args(["--runtime-arg", &word]);
    }
    command.arg("-b").arg(&bundle.path).arg("-p").arg(bundle.path.join("pid"));
    command.arg("--conmon-pidfile").arg(&pid_file).arg("--exit-dir").arg(&bundle.path);
    command.arg("--socket-dir-path").arg(&bundle.path);
    command.arg("-l").arg(format!("k8s-file:{}", bundle.path.join("log").display()));
    command.current_dir(&bundle.path).stdin(Stdio::null());
    succeed(&mut command)?;
    // It goes on in the background until it has the container's pid.
    for _ in 0..1000 {
        if bundle.path.join("pid").exists() {
            let pid = fs::read_to_string(&pid_file).context("read conmon's pid file")?;
            return pid.trim().parse().context("read conmon's pid file");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("conmon does not create {}", bundle.id)
}
