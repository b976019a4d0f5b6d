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
    may_use_pigz: bool,
}

impl Containerd {
    /// `None` where it is not installed.
    pub(crate) async fn start(bed: &Bed) -> Result<Option<Self>> {
        if Command::new("containerd").arg("--version").output().is_err() {
            return Ok(None);
        }
        Self::start_on(bed, "containerd", true).await.map(Some)
    }

    /// Starts another one, which may decompress layers with unpigz(1).
    pub(crate) async fn start_on(bed: &Bed, name: &str, may_use_pigz: bool) -> Result<Self> {
        let work = bed.work().join(name);
        fs::create_dir_all(&work).context("make containerd's directory")?;
        let config = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{0}/sock'\n",
            work.display()
        );
        fs::write(work.join("config.toml"), config).context("write containerd's config")?;
        let child = spawn(&work, may_use_pigz)?;
        let client = answering(&work, "runc").await?;
        Ok(Self { client, child, work, may_use_pigz })
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
        self.child = spawn(&self.work, self.may_use_pigz)?;
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

fn spawn(work: &Path, may_use_pigz: bool) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(work.join("log"));
    let log = log.context("open containerd's log")?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(work.join("config.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    if !may_use_pigz {
        command.env("CONTAINERD_DISABLE_PIGZ", "1");
    }
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
