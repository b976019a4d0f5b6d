//! What an earlier server knew of a container's first process, and what the kernel says of that process now.
//!
//! Reattaching to hundreds of containers takes a while, as each has a shim that is asked. A list of tasks need not
//! wait for that: of a process that lives, nothing that the list shows has changed but whether it is paused, which the
//! kernel knows.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use gantry_domain::{Namespace, Phase, ProcessId};
use gantry_kernel::{cgroup::Cgroup, still_lives};
use gantry_shim_proto::Identity;
use tokio::time::{Instant, timeout_at};

use crate::{
    ContainerHandle, ContainerView, Supervisor,
    handle::Request,
    last_known::see,
    listing::{ANSWER_DEADLINE, read_all},
    recovered_state::Recovered,
};

/// What the view of an earlier server depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Evidence {
    /// Nothing: it has ended, and that was published.
    Ended,
    /// That this process lives.
    Lives(Identity),
}

impl Evidence {
    /// None if only the runtime or the shim can say how it is: a task may have been started and nobody have noticed.
    pub(crate) fn of(left: &Recovered, phase: Phase) -> Option<Self> {
        match phase {
            Phase::Stopped(_) => Some(Self::Ended),
            Phase::Running | Phase::Paused => left.started.map(Self::Lives),
            Phase::Starting | Phase::Created => None,
        }
    }
}

/// A container, for who wants to know of its first process.
#[derive(Debug)]
pub struct FirstProcess {
    /// The container. Further processes of it may be missing.
    pub container: ContainerView,
    /// The kernel says that the process has ended, and nobody says how. The container's phase is from before.
    pub has_ended: bool,
}

/// What the kernel says of a process that an earlier server has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It lives, and is running or paused.
    Lives(Phase),
    Ended,
    Nothing,
}

impl Said {
    /// None is what could not be read.
    fn of(lives: Option<bool>, frozen: impl FnOnce() -> Option<bool>) -> Self {
        match lives {
            Some(true) => match frozen() {
                Some(true) => Self::Lives(Phase::Paused),
                Some(false) => Self::Lives(Phase::Running),
                None => Self::Nothing,
            },
            Some(false) => Self::Ended,
            None => Self::Nothing,
        }
    }
}

/// A process to ask the kernel about.
#[derive(Clone)]
struct Question {
    at: usize,
    process: Identity,
    cgroup: Option<Arc<Cgroup>>,
}

impl Question {
    fn place(&self) -> &Path {
        self.cgroup.as_ref().map_or(Path::new("/proc"), |cgroup| cgroup.path())
    }

    fn ask(&self) -> (usize, Said) {
        let Identity { pid, start_time, pidfd_inode } = self.process;
        let frozen = || self.cgroup.as_ref()?.is_frozen().ok();
        (self.at, Said::of(still_lives(pid, start_time, pidfd_inode).ok(), frozen))
    }
}

impl Supervisor {
    /// The containers of a namespace in the order of their ids, without those that are starting or have just ended: for
    /// who wants to know of their first processes. One that the server has not reattached to yet is as an earlier
    /// server knew it if the kernel says that its process lives.
    pub async fn first_processes(&self, namespace: &Namespace) -> Vec<FirstProcess> {
        let mut unknown = self.containers(namespace);
        let (mut left, mut handles) = (Vec::new(), Vec::new());
        unknown.retain(|handle| match handle.last_known.left() {
            Some(view) => {
                left.push(view);
                handles.push(handle.clone());
                false
            }
            None => true,
        });
        let (mut all, mut ended) = (Vec::new(), Vec::new());
        let said = self.ask_kernel(&left).await;
        for (at, (handle, (mut container, evidence))) in handles.into_iter().zip(left).enumerate() {
            match (evidence, said.get(&at)) {
                (Evidence::Ended, _) => all.push(container),
                (_, Some(Said::Lives(phase))) => {
                    container.phase = *phase;
                    all.push(container);
                }
                (_, Some(Said::Ended)) => ended.push(handle),
                (_, Some(Said::Nothing) | None) => unknown.push(handle),
            }
        }
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let (seen, ended) = tokio::join!(see(&unknown, deadline), see_ended(&ended, deadline));
        all.extend(seen);
        let known = |container| FirstProcess { container, has_ended: false };
        let mut all: Vec<_> = all.into_iter().map(known).chain(ended).collect();
        all.sort_by(|a, b| a.container.id.cmp(&b.container.id));
        all
    }

    /// What the kernel says, by the position of the container. Nothing of one whose cgroup does not answer in time.
    async fn ask_kernel(&self, left: &[(ContainerView, Evidence)]) -> BTreeMap<usize, Said> {
        let questions = left.iter().enumerate().filter_map(|(at, (view, evidence))| {
            let Evidence::Lives(process) = *evidence else { return None };
            Some(Question { at, process, cgroup: view.cgroup.clone() })
        });
        let disks = &self.0.services.disks;
        let said = read_all(disks, questions.collect(), Question::place, Question::ask).await;
        said.into_iter().collect()
    }
}

/// Containers whose first processes have ended while there was no server: how, their shims say, or nobody until the
/// server has given up on these.
async fn see_ended(handles: &[ContainerHandle], deadline: Instant) -> Vec<FirstProcess> {
    let wait = |handle: &ContainerHandle| {
        handle.send(|reply| Request::Wait(ProcessId::init(), reply)).ok()
    };
    let exits: Vec<_> = handles.iter().filter_map(wait).collect();
    for exit in exits {
        // One that is gone, or cannot be asked, is seen as it is.
        let _ = timeout_at(deadline, exit).await;
    }
    let seen = see(handles, deadline).await.into_iter();
    let first = |container: ContainerView| {
        let has_ended = matches!(container.phase, Phase::Running | Phase::Paused);
        FirstProcess { container, has_ended }
    };
    seen.map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_say_is_not_known() {
        for (lives, frozen, expected) in [
            (Some(true), Some(true), Said::Lives(Phase::Paused)),
            (Some(true), Some(false), Said::Lives(Phase::Running)),
            (Some(true), None, Said::Nothing),
            (Some(false), Some(true), Said::Ended),
            (Some(false), None, Said::Ended),
            (None, Some(false), Said::Nothing),
        ] {
            assert_eq!(Said::of(lives, || frozen), expected);
        }
    }
}
