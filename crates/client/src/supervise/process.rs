//! The server's process: started by this daemon, or by an earlier one.

use std::{fs, io, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time,
};

use super::{ServerCommand, listen_argument, pidfd::Pidfd};
use crate::error::{Error, Result};

/// How long a killed process may take to end, unless the kernel holds it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct ServerProcess {
    pid: Pid,
    pidfd: Pidfd,
    /// Set if the server is our child, which has to be reaped.
    child: Option<Child>,
}

impl ServerProcess {
    pub(super) fn spawn(command: &ServerCommand) -> Result<ServerProcess> {
        let failed = |e| Error::io("start server", &command.binary, e);
        let child = Command::new(&command.binary)
            .arg("-l")
            .arg(listen_argument(&command.socket))
            .args(&command.args)
            // A ctrl-c at the daemon's terminal is not for the server.
            .process_group(0)
            // With it, the server would report to the daemon's service manager that the daemon is ready.
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        // The child is not reaped yet, so its pid is still its own.
        let pidfd = Pidfd::open(pid).map_err(failed)?;
        Ok(ServerProcess { pid, pidfd, child: Some(child) })
    }

    /// The server that an earlier daemon has left: the process in the pid file, if it is the one
    /// that listens on the socket. Either alone proves nothing, as pids are used again and a socket
    /// may be another service's.
    pub(super) async fn adopt(pid_file: &Path, socket: &Path) -> Option<ServerProcess> {
        let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        let pid = Pid::from_raw(pid)?;
        let pidfd = Pidfd::open(pid).ok()?;
        let stream = UnixStream::connect(socket).await.ok()?;
        let listener = stream.peer_cred().ok()?.pid()?;
        let is_it = Pid::from_raw(listener) == Some(pid);
        is_it.then_some(ServerProcess { pid, pidfd, child: None })
    }

    /// Returns when it has ended, with what is known about how.
    pub(super) async fn exited(&mut self) -> String {
        match &mut self.child {
            Some(child) => {
                child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string())
            }
            None => {
                let gone = self.pidfd.exited().await;
                gone.map_or_else(|e| e.to_string(), |()| "status unknown".to_owned())
            }
        }
    }

    /// Ends it, at the latest after the deadline.
    pub(super) async fn terminate(&mut self, deadline: Duration) {
        self.send(Signal::TERM);
        if time::timeout(deadline, self.exited()).await.is_err() {
            tracing::error!("the server does not stop and is killed");
            self.kill().await;
        }
    }

    pub(super) async fn kill(&mut self) {
        self.send(Signal::KILL);
        if time::timeout(KILL_DEADLINE, self.exited()).await.is_err() {
            tracing::error!("the server hangs in the kernel");
        }
    }

    fn send(&self, signal: Signal) {
        // Nothing to be done if it has ended already; its exit is awaited in any case.
        if let Err(error) = self.pidfd.send(signal) {
            tracing::debug!(%error, ?signal, "signal not sent to the server");
        }
    }

    pub(super) fn write_pid_file(&self, path: &Path) -> Result<()> {
        let text = self.pid.as_raw_nonzero().to_string();
        fs::write(path, text).map_err(|e| Error::io("write pid file", path, e))
    }

    /// Lowering it needs a privilege; a server without it still serves.
    pub(super) fn adjust_oom_score(&self, adjustment: i32) {
        let path = format!("/proc/{}/oom_score_adj", self.pid.as_raw_nonzero());
        if let Err(error) = fs::write(&path, adjustment.to_string()) {
            tracing::warn!(path, adjustment, %error, "OOM score not set");
        }
    }
}

pub(super) fn remove_pid_file(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "pid file not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn only_the_process_that_listens_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, pid_file) = (dir.path().join("sock"), dir.path().join("pid"));
        let adopt = || ServerProcess::adopt(&pid_file, &socket);
        assert!(adopt().await.is_none());
        fs::write(&pid_file, std::process::id().to_string()).unwrap();
        assert!(adopt().await.is_none(), "nobody listens");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(adopt().await.is_some());
        fs::write(&pid_file, "1").unwrap();
        assert!(adopt().await.is_none(), "somebody else listens");
    }
}
