//! Runs the server as a child of the daemon: starts it, watches its health, restarts and stops it.
//!
//! The server may outlive the daemon. A daemon that restarts adopts the server that is
//! still running, and dropping the handle leaves it running; only [`Server::shutdown`] ends it.

mod health;
mod pidfd;
mod process;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle, time};

use crate::{
    backoff::Backoff,
    error::{Error, ErrorKind, Result},
};
use health::Health;
use process::ServerProcess;

/// How long a server may take until it answers for the first time.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// How long it may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Describes a server to run.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `start`"]
pub struct ServerCommand {
    binary: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    args: Vec<String>,
    oom_score_adj: Option<i32>,
}

impl ServerCommand {
    /// `binary` will listen on `socket`. Its pid is in `pid_file` while it runs.
    pub fn new(
        binary: impl Into<PathBuf>,
        socket: impl Into<PathBuf>,
        pid_file: impl Into<PathBuf>,
    ) -> ServerCommand {
        ServerCommand {
            binary: binary.into(),
            socket: socket.into(),
            pid_file: pid_file.into(),
            args: Vec::new(),
            oom_score_adj: None,
        }
    }

    /// Arguments besides `-l unix://SOCKET`.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Lets the kernel spare it (negative) or prefer it when memory runs out, see proc(5).
    pub fn oom_score_adj(mut self, adjustment: i32) -> Self {
        self.oom_score_adj = Some(adjustment);
        self
    }

    /// Starts it, or adopts the one that an earlier daemon has started; returns when it answers.
    pub async fn start(self) -> Result<Server> {
        let mut health = Health::new(&self.socket);
        let process = match ServerProcess::adopt(&self.pid_file, &self.socket).await {
            Some(process) => process,
            None => self.spawn(&mut health).await?,
        };
        let (stop, stopped) = oneshot::channel();
        let supervisor = Supervisor { command: self, process, health };
        Ok(Server { stop, task: tokio::spawn(supervisor.run(stopped)) })
    }

    async fn spawn(&self, health: &mut Health) -> Result<ServerProcess> {
        let mut process = ServerProcess::spawn(self)?;
        if let Err(error) = process.write_pid_file(&self.pid_file) {
            process.kill().await;
            return Err(error);
        }
        if let Some(adjustment) = self.oom_score_adj {
            process.adjust_oom_score(adjustment);
        }
        let failed = |message| {
            let operation = format!("start {}", self.binary.display());
            Err(Error::new(operation, ErrorKind::Unavailable(message)))
        };
        tokio::select! {
            () = health.until_serving() => Ok(process),
            status = process.exited() => failed(format!("it has exited: {status}")),
            () = time::sleep(START_DEADLINE) => {
                process.kill().await;
                failed(format!("no answer within {} s", START_DEADLINE.as_secs()))
            }
        }
    }
}

/// A server that is watched. Dropping this stops the watching and leaves the server running.
#[derive(Debug)]
pub struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Ends the server: SIGTERM, and SIGKILL after 15 s. Its containers live on.
    pub async fn shutdown(self) -> Result<()> {
        let _ = self.stop.send(());
        self.task.await.map_err(|error| {
            let kind = ErrorKind::Unavailable("its supervisor has failed".to_owned());
            Error::new("stop the server", kind).caused_by(error)
        })
    }
}

struct Supervisor {
    command: ServerCommand,
    process: ServerProcess,
    health: Health,
}

impl Supervisor {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                stopped = &mut stop => {
                    if stopped.is_ok() {
                        self.process.terminate(STOP_DEADLINE).await;
                        process::remove_pid_file(&self.command.pid_file);
                    }
                    return;
                }
                status = self.process.exited() => {
                    tracing::error!(%status, "the server has exited");
                }
                () = self.health.until_failed() => {
                    tracing::error!("the server does not answer and is killed");
                    self.process.kill().await;
                }
            }
            if !self.restart(&mut stop).await {
                return process::remove_pid_file(&self.command.pid_file);
            }
        }
    }

    /// Whether there is a new process; there is none if the supervision was stopped meanwhile.
    async fn restart(&mut self, stop: &mut oneshot::Receiver<()>) -> bool {
        let mut backoff = Backoff::new();
        loop {
            // Not cancelled by a stop: nobody would watch the process that was just started.
            match self.command.spawn(&mut self.health).await {
                Ok(process) => {
                    self.process = process;
                    return true;
                }
                Err(error) => tracing::error!("the server was not restarted: {error:#}"),
            }
            tokio::select! {
                _ = &mut *stop => return false,
                () = backoff.wait() => {}
            }
        }
    }
}

/// What `-l` gets.
fn listen_argument(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}
