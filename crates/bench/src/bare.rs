//! The floor: a runtime, called by hand as a shell script would.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bed::{Bed, Bundle},
    proc,
};

/// A runtime with a root directory of its own.
#[derive(Debug, Clone)]
pub(crate) struct Bare {
    pub(crate) name: &'static str,
    root: PathBuf,
}

impl Bare {
    pub(crate) fn new(bed: &Bed, name: &'static str) -> Self {
        Self { name, root: bed.work().join(format!("bare-{name}")) }
    }

    /// What the series is called.
    pub(crate) fn subject(&self) -> String {
        format!("bare {}", self.name)
    }

    /// `run --detach`; the pid.
    pub(crate) fn run(&self, bundle: &Bundle) -> Result<u32> {
        self.run_into(bundle, Stdio::null())
    }

    /// The same, with somewhere to write.
    pub(crate) fn run_into(&self, bundle: &Bundle, stdout: Stdio) -> Result<u32> {
        let pid_file = bundle.path.join("pid");
        let mut command = self.command(&["run", "--detach", "--bundle"]);
        command.arg(&bundle.path).arg("--pid-file").arg(&pid_file).arg(&bundle.id);
        finish(command.stdout(stdout))?;
        read_pid(&pid_file)
    }

    /// `exec --detach` of what the container itself runs; the pid.
    pub(crate) fn exec(&self, bundle: &Bundle) -> Result<u32> {
        let pid_file = bundle.path.join("exec-pid");
        let mut command = self.command(&["exec", "--detach", "--process"]);
        command.arg(bundle.path.join("process.json"));
        command.arg("--pid-file").arg(&pid_file).arg(&bundle.id);
        succeed(&mut command)?;
        read_pid(&pid_file)
    }

    /// Waits for the end of the container's process, and has the runtime forget it.
    pub(crate) fn wait_and_delete(&self, bundle: &Bundle, pid: u32) -> Result<()> {
        proc::wait(pid);
        self.delete(bundle)
    }

    /// The runtime forgets a container that has ended.
    pub(crate) fn delete(&self, bundle: &Bundle) -> Result<()> {
        succeed(self.command(&["delete"]).arg(&bundle.id))
    }

    /// Ends a container and has the runtime forget it.
    pub(crate) fn delete_by_force(&self, bundle: &Bundle) -> Result<()> {
        succeed(self.command(&["delete", "--force"]).arg(&bundle.id))
    }

    /// What keeps its containers apart from everybody else's.
    pub(crate) fn root_arguments(&self) -> [String; 2] {
        ["--root".to_owned(), self.root.to_string_lossy().into_owned()]
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.name);
        command.args(self.root_arguments()).args(words);
        command
    }
}

/// Runs a command with nothing to read and nowhere to write.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    finish(command.stdout(Stdio::null()))
}

fn finish(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn read_pid(path: &PathBuf) -> Result<u32> {
    let text = fs::read_to_string(path).context("read a pid file")?;
    text.trim().parse().context("read a pid file")
}
