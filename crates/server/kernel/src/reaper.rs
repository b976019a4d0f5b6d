//! One place that reaps: gantryd's own children, and the orphans that come to it as a subreaper.
//!
//! ```text
//! spawn, adopt --> waited for --> SIGCHLD --> reaped --> its status goes to the waiter
//! ```
//!
//! A pid is another process's as soon as it is reaped. So starting, killing by pid, and reaping exclude each other
//! by one lock: whoever holds it knows that a child that is waited for has not been reaped.
#![allow(unsafe_code, reason = "nix's waits know no real-time signals")]

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_domain::ExitStatus;
use nix::{
    libc,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Reaps every child and passes its status to its waiter. Orphans without a waiter are reaped too.
#[derive(Clone, Default)]
pub struct Reaper(Arc<Mutex<Waiting>>);

/// Who waits for which process.
type Waiting = HashMap<u32, Waiter>;

struct Waiter {
    status: oneshot::Sender<ExitStatus>,
    /// A child of gantryd's, whose pid means nobody else before it is reaped.
    is_child: bool,
}

impl Reaper {
    /// Becomes a child subreaper (see PR_SET_CHILD_SUBREAPER in prctl(2)) and starts to reap.
    pub fn start() -> io::Result<Self> {
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
    pub fn spawn(
        &self,
        start: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<(u32, oneshot::Receiver<ExitStatus>)> {
        let mut waiting = self.lock();
        let pid = start()?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(pid, Waiter { status: sender, is_child: true });
        Ok((pid, receiver))
    }

    /// Kills a child. By its pid, as a pidfd needs a descriptor, of which there may be none left.
    pub fn kill(&self, pid: u32) {
        let waiting = self.lock();
        if is_child(&waiting, pid) {
            #[allow(clippy::disallowed_methods, reason = "it cannot be recycled under the lock")]
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }

    /// Kills a child that was started as a process group of its own, and the group with it.
    pub fn kill_group(&self, leader: u32) {
        let waiting = self.lock();
        if is_child(&waiting, leader) {
            let _ = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }

    /// Waits for a process that may become a child of gantryd when its parent dies. To be called
    /// while the parent still lives.
    pub fn adopt(&self, pid: u32) -> Adoption {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(pid, Waiter { status: sender, is_child: false });
        Adoption { reaper: self.clone(), pid, status: receiver }
    }

    fn reap(&self) {
        // Held from before the kernel frees a pid until the pid is removed from the map.
        let mut waiting = self.lock();
        while let Some((pid, status)) = reap_one() {
            if let Some(waiter) = waiting.remove(&pid) {
                // A waiter that has given up needs no answer.
                let _ = waiter.status.send(status);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the pid is that of a child that was not reaped yet. Otherwise it may mean any process.
fn is_child(waiting: &Waiting, pid: u32) -> bool {
    waiting.get(&pid).is_some_and(|waiter| waiter.is_child)
}

/// Takes the status of one child that has ended. The kernel's own status word is read: nix refuses one
/// with a real-time signal in it (EINVAL) when the child is reaped already, and its status is lost.
fn reap_one() -> Option<(u32, ExitStatus)> {
    const ANY: libc::pid_t = -1;
    let mut status = 0;
    // SAFETY: the pointer is valid for writes.
    let pid = unsafe { libc::waitpid(ANY, &raw mut status, libc::WNOHANG) };
    // Zero: none has ended. Negative: there is no child (ECHILD; with WNOHANG nothing interrupts it).
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some((pid, ExitStatus::from_wait_status(status)))
}

/// The wait for a process that may become a child. Dropping it ends the wait.
pub struct Adoption {
    reaper: Reaper,
    pid: u32,
    status: oneshot::Receiver<ExitStatus>,
}

impl Adoption {
    /// The status, if the process became gantryd's child and ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
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
        if waiting.get(&self.pid).is_some_and(|waiter| waiter.status.is_closed()) {
            waiting.remove(&self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_death_by_a_real_time_signal_has_its_status() {
        let reaper = Reaper::start().unwrap();
        #[allow(clippy::disallowed_methods)]
        let start = || {
            let script = format!("kill -{} $$; sleep 1000", libc::SIGRTMIN() + 3);
            Ok(std::process::Command::new("sh").args(["-c", &script]).spawn()?.id())
        };
        let (pid, ended) = reaper.spawn(start).unwrap();
        let signal = u8::try_from(libc::SIGRTMIN() + 3).unwrap();
        assert_eq!(ended.await, Ok(ExitStatus::Signal(signal)));
        assert!(!is_child(&reaper.lock(), pid), "nothing is sent to its pid any more");
    }

    #[tokio::test]
    async fn only_a_child_is_killed_by_its_pid() {
        let reaper = Reaper::default();
        let own = std::process::id();
        let _adoption = reaper.adopt(own);
        // The test's own process, which is no child: it must survive.
        reaper.kill(own);
        assert!(!is_child(&reaper.lock(), own));
    }
}
