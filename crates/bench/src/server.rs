//! The server under test: started for this, or one that runs already.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::socket_peercred;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{bed::Bed, gantry::connect};

/// Path of a server's socket.
pub(crate) type Socket = Path;

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server; one of our own ends when it is dropped.
pub(crate) struct Server {
    pub(crate) socket: PathBuf,
    pub(crate) pid: u32,
    own: Option<Own>,
}

struct Own {
    child: Child,
    work: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    /// Uses a server that runs.
    pub(crate) fn foreign(socket: &Path) -> Result<Self> {
        let connection = std::os::unix::net::UnixStream::connect(socket);
        let connection = connection.with_context(|| format!("connect to {}", socket.display()))?;
        let pid = socket_peercred(connection).context("SO_PEERCRED")?.pid;
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        Ok(Self { socket: socket.to_owned(), pid, own: None })
    }

    /// Starts a server of this name with more arguments.
    pub(crate) async fn start(bed: &Bed, name: &str, arguments: &[&str]) -> Result<Self> {
        let work = bed.work().join(name);
        std::fs::create_dir_all(&work).context("make a server's directory")?;
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(&work, &arguments)?;
        let (socket, pid) = (work.join("sock"), child.id());
        let server = Self { socket, pid, own: Some(Own { child, work, arguments }) };
        server.answers().await?;
        Ok(server)
    }

    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Kills it the hard way and starts another on what it left; returns when that was spawned.
    pub(crate) fn crash(&mut self) -> Result<Instant> {
        let own = self.own.as_mut().context("only a server of our own can be killed")?;
        own.child.kill().context("kill the server")?;
        own.child.wait().context("wait for the server")?;
        let begin = Instant::now();
        own.child = spawn(&own.work, &own.arguments)?;
        self.pid = own.child.id();
        Ok(begin)
    }

    /// Waits until it answers a first call, which is for its health.
    pub(crate) async fn answers(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            if let Ok(channel) = connect(&self.socket).await
                && HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
            {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{} does not answer", self.socket.display());
            // There is nothing to wait on before there is a socket.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn spawn(work: &Path, arguments: &[String]) -> Result<Child> {
    let program = program()?;
    let log = File::options().create(true).append(true).open(work.join("log"));
    let log = log.context("open the server's log")?;
    let mut command = Command::new(&program);
    command.arg("--listen").arg(work.join("sock")).arg("--state-dir").arg(work.join("state"));
    command.arg("--root").arg(work.join("root"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("start {}", program.display()))
}

/// `$GANTRYD`, or the one beside this program.
pub(crate) fn program() -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("gantryd"));
    let path = std::env::var_os("GANTRYD").map_or_else(beside, |path| Ok(path.into()));
    let path: PathBuf = path.map_err(|error: std::io::Error| error).context("find gantryd")?;
    ensure!(path.exists(), "no {}: build the workspace, see bench.sh", path.display());
    Ok(path)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}
