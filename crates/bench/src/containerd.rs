//! The comparison: a containerd 1.6 of our own, through its gRPC API.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bed::{Bed, Bundle},
    tasks::Tasks,
};

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd. Dropping it ends it.
pub(crate) struct Containerd {
    pub(crate) client: Tasks,
    child: Child,
    work: PathBuf,
}

impl Containerd {
    /// `None` where it is not installed.
    pub(crate) async fn start(bed: &Bed) -> Result<Option<Self>> {
        if Command::new("containerd").arg("--version").output().is_err() {
            return Ok(None);
        }
        let work = bed.work().join("containerd");
        fs::create_dir_all(&work).context("make containerd's directory")?;
        let config = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{0}/sock'\n",
            work.display()
        );
        fs::write(work.join("config.toml"), config).context("write containerd's config")?;
        let child = spawn(&work)?;
        let client = answering(&work, "runc").await?;
        Ok(Some(Self { client, child, work }))
    }

    /// A client whose tasks run on this runtime.
    pub(crate) async fn on(&self, runtime: &'static str) -> Result<Tasks> {
        answering(&self.work, runtime).await
    }

    /// Kills it the hard way and starts another on what it left; returns when that was spawned.
    pub(crate) fn crash(&mut self) -> Result<Instant> {
        self.child.kill().context("kill containerd")?;
        self.child.wait().context("wait for containerd")?;
        let begin = Instant::now();
        self.child = spawn(&self.work)?;
        Ok(begin)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.work.join("sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its shims have in their arguments.
    pub(crate) fn address(&self) -> String {
        self.socket().to_string_lossy().into_owned()
    }

    /// `ctr run --rm`: from start to end.
    pub(crate) fn ctr_run(&self, bundle: &Bundle) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket());
        command.args(["run", "--rm", "--null-io", "--runc-root", &self.runc_root(), "--config"]);
        command.arg(bundle.path.join("config.json")).arg(&bundle.id);
        command
    }

    /// `ctr task exec --detach`.
    pub(crate) fn ctr_exec(&self, bundle: &Bundle, process: &str) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket());
        command.args(["task", "exec", "--detach", "--exec-id", process, &bundle.id]);
        command.args(["sleep", "1000000"]);
        command
    }

    fn runc_root(&self) -> String {
        self.work.join("ctr").to_string_lossy().into_owned()
    }
}

fn spawn(work: &Path) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(work.join("log"));
    let log = log.context("open containerd's log")?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(work.join("config.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().context("start containerd")
}

/// A client, once it answers.
async fn answering(work: &Path, runtime: &'static str) -> Result<Tasks> {
    let (socket, begin) = (work.join("sock"), Instant::now());
    loop {
        if let Ok(client) = Tasks::connect(&socket, work.join("runtimes"), runtime).await
            && client.count().await.is_ok()
        {
            return Ok(client);
        }
        ensure!(begin.elapsed() < PATIENCE, "containerd does not answer");
        // There is nothing to wait on before there is a socket.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
