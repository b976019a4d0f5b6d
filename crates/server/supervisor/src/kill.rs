//! Makes SIGKILL end a process even if frozen, whoever froze it.

use std::sync::Arc;

use gantry_domain::{ProcessId, ProcessPhase, Refusal};
use gantry_kernel::{
    PidFd,
    cgroup::{Cgroup, CgroupError, Hierarchies},
};
use nix::libc;

use crate::{
    SupervisorError,
    actor::{Actor, Process},
    handle::Reply,
};

/// Where a process may be frozen.
#[derive(Clone)]
pub(crate) struct Freezer {
    pub(crate) hierarchies: Arc<Hierarchies>,
    /// Of its container.
    pub(crate) cgroup: Option<Arc<Cgroup>>,
    /// Whether it is the first process, with which all others end.
    pub(crate) init: bool,
}

impl Freezer {
    /// Lets a frozen process die of SIGKILL, without a `resume` event: nobody resumed it.
    pub(crate) fn release(&self, pid: u32) -> Result<(), CgroupError> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        if self.init { cgroup.release_all() } else { cgroup.release(&self.hierarchies, pid) }
    }

    /// Kills a process that nobody will ask about again.
    pub(crate) fn kill(&self, pid: u32, pidfd: &PidFd) {
        // It may have ended, and its cgroup may be gone.
        let _ = pidfd.send_signal(libc::SIGKILL);
        if !pidfd.has_ended()
            && let Err(error) = self.release(pid)
        {
            tracing::warn!(pid, %error, "a killed process may be frozen, and cannot be released yet");
        }
    }
}

impl Actor {
    pub(crate) fn freezer(&self, process: &ProcessId) -> Freezer {
        Freezer {
            hierarchies: Arc::clone(&self.services.hierarchies),
            cgroup: self.cgroup.clone(),
            init: process.is_init(),
        }
    }

    /// Sends a signal, and answers once it can take effect.
    pub(crate) fn signal(&mut self, process: &ProcessId, signal: i32, reply: Reply<()>) {
        let sent = self.send_signal(process, signal);
        let known = self.processes.get_mut(process).filter(|_| signal == libc::SIGKILL);
        let Some((known, Ok(()))) = known.map(|known| (known, &sent)) else {
            // A caller that is gone needs no answer.
            let _ = reply.send(sent);
            return;
        };
        known.killed = true;
        let release = self.release(process);
        tokio::spawn(async move {
            let _ = reply.send(release.await);
        });
    }

    /// Kills the first process; its exit follows.
    pub(crate) fn kill_init(&self) {
        let init = ProcessId::init();
        if let Some(Process { pid, pidfd: Some(pidfd), .. }) = self.processes.get(&init) {
            self.freezer(&init).kill(*pid, pidfd);
        }
    }

    /// Sends a signal to all processes in the container's cgroup that are the container's.
    pub(crate) fn signal_all(&mut self, signal: i32, reply: Reply<()>) {
        let init = ProcessId::init();
        let sent = match self.known_process(&init) {
            // Other processes may live on without the first one.
            Ok(known) if known.has_ended() && self.is_kept() => Ok(()),
            Ok(_) => self.send_signal(&init, signal),
            Err(error) => Err(error),
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        let cgroup = self.cgroup.clone();
        let release = (signal == libc::SIGKILL).then(|| self.release(&init));
        tokio::spawn(async move {
            let mut sent = sent;
            if let (Ok(()), Some(cgroup)) = (&sent, cgroup) {
                let others = services.signal_own(&identity, &cgroup, signal).await;
                sent = others.map_err(|cause| SupervisorError::SignalAll { cause });
            }
            if let Some(release) = release {
                sent = release.await.and(sent);
            }
            let _ = reply.send(sent);
        });
    }

    fn send_signal(&self, process: &ProcessId, signal: i32) -> Result<(), SupervisorError> {
        let known = self.known_process(process)?;
        if let (Some(phase @ ProcessPhase::Created), None) =
            (self.lifecycle.process_phase(process), &known.pidfd)
        {
            return Err(Refusal::ProcessPhase { process: process.clone(), phase }.into());
        }
        // The kernel takes signals for one that has ended and was not waited for.
        let pidfd = known.pidfd.as_ref().filter(|_| signal != 0 || !known.has_ended());
        let pidfd = pidfd.ok_or_else(|| SupervisorError::ProcessExited(process.clone()))?;
        pidfd.send_signal(signal).map_err(|cause| match cause.raw_os_error() {
            Some(libc::ESRCH) => SupervisorError::ProcessExited(process.clone()),
            _ => SupervisorError::Signal { process: process.clone(), cause },
        })
    }

    fn release(
        &self,
        process: &ProcessId,
    ) -> impl Future<Output = Result<(), SupervisorError>> + use<> {
        let freezer = self.freezer(process);
        let known = self.processes.get(process);
        let living = known.filter(|known| !known.has_ended()).map(|known| known.pid);
        let process = process.clone();
        async move {
            let Some(pid) = living else { return Ok(()) };
            let released = freezer.release(pid);
            released.map_err(|cause| SupervisorError::StillFrozen { process, cause })
        }
    }

    /// Releases killed processes that a later pause has frozen.
    pub(crate) fn release_killed(&self) {
        let killed = |(id, known): (&ProcessId, &Process)| known.killed.then(|| self.release(id));
        for release in self.processes.iter().filter_map(killed) {
            let container = self.identity.key.clone();
            tokio::spawn(async move {
                if let Err(error) = release.await {
                    tracing::warn!(%container, %error, "a killed process is frozen, and cannot be released yet");
                }
            });
        }
    }
}
