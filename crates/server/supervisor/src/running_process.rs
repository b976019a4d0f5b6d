//! A running process, and how its exit status is learned even without its shim.
//!
//! ```text
//! shim reports ----------------------------------> exit with the shim's time
//! shim is lost --> pidfd says that it ended --> exit.json, else the reaper, else the kernel
//! pidfd first ---> shim has 3 s to report ------> as if the shim were lost
//! ```

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use gantry_domain::{Exit, ExitStatus, Timestamp};
use gantry_kernel::{Adoption, Backoff, PidFd, Trouble, until_answered, zombie_status};
use tokio::time::sleep;

use crate::{
    kill::Freezer,
    shim_link::{Report, ShimLink},
    state_dir::ProcessDir,
};

/// How long a shim may take to report an exit that the server has seen itself: it drains a
/// terminal first, for a second at most. The time that its disk takes is not counted.
const REPORT_GRACE: Duration = Duration::from_secs(3);

/// After this time it is worth checking whether the disk delays the shim: most exits are reported far sooner.
const IS_LATE: Duration = Duration::from_millis(200);

/// A process that lives, or has just ended.
pub(crate) struct RunningProcess {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<PidFd>,
    /// None once its shim was found dead.
    pub(crate) link: Option<Arc<ShimLink>>,
    /// Set if the shim is gantryd's child: gantryd then inherits orphans.
    pub(crate) adoption: Option<Adoption>,
}

/// What is to happen to a process whose shim has died.
pub(crate) struct WithoutShim {
    pub(crate) kill: bool,
    pub(crate) freezer: Freezer,
}

impl RunningProcess {
    /// Waits for the end of the process.
    pub(crate) async fn exit(mut self, dir: &ProcessDir, without_shim: WithoutShim) -> Exit {
        if let Some(link) = self.link.take() {
            if let Some(exit) = self.reported(&link, dir).await {
                return exit;
            }
            tracing::warn!(pid = self.pid, dir = %dir.path().display(), "lost the shim");
            if without_shim.kill {
                without_shim.freezer.kill(self.pid, &self.pidfd);
            }
        }
        self.pidfd.exited().await;
        let at = now();
        self.exit_without_shim(dir, at).await
    }

    /// The exit as the shim reports it; `None` if it will not.
    async fn reported(&self, link: &ShimLink, dir: &ProcessDir) -> Option<Exit> {
        let mut overdue = pin!(self.is_overdue(dir));
        let mut backoff = Backoff::default();
        loop {
            tokio::select! {
                biased;
                report = link.receive() => match report {
                    Ok(Some(Report::Exited(exit))) => return Some(exit),
                    Ok(Some(Report::Launched { .. } | Report::LaunchFailed(_))) => {}
                    Ok(None) => return None,
                    Err(error) if Trouble::of(&error) == Trouble::Scarce => {
                        tracing::warn!(pid = self.pid, %error, "cannot receive from the shim now");
                        backoff.pause().await;
                    }
                    Err(error) => {
                        tracing::warn!(pid = self.pid, %error, "cannot receive from the shim");
                        return None;
                    }
                },
                () = &mut overdue => return None,
            }
        }
    }

    /// Waits until the shim should have reported the exit. The shim first writes the exit to disk: while a disk that is
    /// frozen for a backup blocks that, the shim is in order, and nobody else knows the status.
    async fn is_overdue(&self, dir: &ProcessDir) {
        self.pidfd.exited().await;
        sleep(IS_LATE).await;
        // An error shows that the disk answers, too.
        let _ = dir.run(ProcessDir::touch).await;
        sleep(REPORT_GRACE - IS_LATE).await;
    }

    /// The exit from exit.json, else from the kernel: of an orphan that became gantryd's child, of a
    /// process that somebody else reaped, or of a zombie.
    async fn exit_without_shim(&mut self, dir: &ProcessDir, at: Timestamp) -> Exit {
        let pid = self.pid;
        let left = || dir.run(ProcessDir::exit);
        let left = until_answered(format!("read how process {pid} ended"), left);
        if let Some(exit) = left.await {
            return exit;
        }
        let known = self.adoption.as_mut().and_then(Adoption::status);
        if let Some(status) = known.or_else(|| self.pidfd.exit_status()) {
            return Exit { status, at };
        }
        let ask = || async { zombie_status(pid) };
        let unreaped = until_answered(format!("ask how process {pid} ended"), ask).await;
        Exit { status: unreaped.unwrap_or(ExitStatus::Unknown), at }
    }
}

/// The time at which the server finds out an exit whose time the shim does not report.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}
