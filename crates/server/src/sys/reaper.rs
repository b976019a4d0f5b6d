//! One place that reaps: gantryd's own children, and the orphans that come to it as a subreaper.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::PidFd;
use crate::domain::ExitStatus;

/// Reaps every child and tells whoever waits for it. Orphans that nobody waits for are reaped too.
#[derive(Clone, Default)]
pub(crate) struct Reaper(Arc<Mutex<HashMap<u32, oneshot::Sender<ExitStatus>>>>);

impl Reaper {
    /// Becomes a child subreaper (see PR_SET_CHILD_SUBREAPER in prctl(2)) and starts to reap.
    pub(crate) fn start() -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let reaper = Self::default();
        let mut children = signal(SignalKind::child())?;
        tokio::spawn({
            let reaper = reaper.clone();
            async move {
                while children.recv().await.is_some() {
                    reaper.reap();
                }
            }
        });
        Ok(reaper)
    }

    /// Has a child started, which is reaped here and nowhere else. The lock is held meanwhile, so that
    /// a child that ends at once is not taken for an orphan.
    pub(crate) fn spawn(
        &self,
        start: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<(u32, oneshot::Receiver<ExitStatus>)> {
        let mut waiting = self.lock();
        let pid = start()?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(pid, sender);
        Ok((pid, receiver))
    }

    /// Kills a child.
    pub(crate) fn kill(&self, pid: u32) {
        let waiting = self.lock();
        // Not reaped yet, or else the pid could mean another process.
        if waiting.contains_key(&pid)
            && let Ok(child) = PidFd::open(pid)
        {
            let _ = child.send_signal(Signal::SIGKILL as i32);
        }
    }

    /// Kills a child that was started as a process group of its own, and the group with it.
    pub(crate) fn kill_group(&self, leader: u32) {
        let waiting = self.lock();
        // Not reaped yet, or else its pid could mean another group.
        if waiting.contains_key(&leader) {
            let _ = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }

    /// Waits for a process that may become a child of gantryd when its parent dies. To be called
    /// while the parent still lives.
    pub(crate) fn adopt(&self, pid: u32) -> Adoption {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(pid, sender);
        Adoption { reaper: self.clone(), pid, status: receiver }
    }

    fn reap(&self) {
        let mut waiting = self.lock();
        loop {
            let (pid, status) = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code.to_le_bytes()[0])),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (
                    pid,
                    u8::try_from(signal as i32).map_or(ExitStatus::Unknown, ExitStatus::Signal),
                ),
                Err(nix::Error::EINTR) => continue,
                _ => return,
            };
            if let Some(waiter) = waiting.remove(&pid.as_raw().cast_unsigned()) {
                // A waiter that has given up needs no answer.
                let _ = waiter.send(status);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<ExitStatus>>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait for a process that may become a child. Dropping it ends the wait.
pub(crate) struct Adoption {
    reaper: Reaper,
    pid: u32,
    status: oneshot::Receiver<ExitStatus>,
}

impl Adoption {
    /// Its status, if it has come to gantryd and ended.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        // The signal may not have been handled yet.
        self.reaper.reap();
        self.status.try_recv().ok()
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        let mut waiting = self.reaper.lock();
        // A later process may have got the pid, and a waiter of its own.
        self.status.close();
        if waiting.get(&self.pid).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&self.pid);
        }
    }
}
