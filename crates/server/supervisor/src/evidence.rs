//! What an earlier server knew of a container's first process, and whether the kernel says that this is still so.
//!
//! Reattaching to hundreds of containers takes a while, as each has a shim that is asked. A list of tasks need not
//! wait for that: of a process that lives, nothing that the list shows has changed.

use std::path::Path;

use gantry_domain::{Namespace, Phase};
use gantry_kernel::still_lives;
use gantry_shim_proto::Identity;
use tokio::time::Instant;

use crate::{
    ContainerView, Supervisor, last_known::see, listing::ANSWER_DEADLINE,
    recovered_state::Recovered,
};

/// What the view of an earlier server depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Evidence {
    /// Nothing: it has ended, and that was published.
    Ended,
    /// That this process lives, and is paused or not as it was.
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

    /// Whether a view of before is true now, as far as it is of the first process. An error is no answer.
    fn confirms(self, view: &ContainerView) -> bool {
        let Self::Lives(Identity { pid, start_time, pidfd_inode }) = self else { return true };
        let frozen = || view.cgroup.as_ref().and_then(|cgroup| cgroup.is_frozen().ok());
        matches!(still_lives(pid, start_time, pidfd_inode), Ok(true))
            && frozen() == Some(view.phase == Phase::Paused)
    }
}

impl Supervisor {
    /// The containers of a namespace in the order of their ids, without those that are starting or have just ended: for
    /// who wants to know of their first processes. One that the server has not reattached to yet is as an earlier
    /// server knew it if the kernel confirms that, and has no further processes then.
    pub async fn first_processes(&self, namespace: &Namespace) -> Vec<ContainerView> {
        let mut handles = self.containers(namespace);
        let left = handles.iter().filter_map(|handle| handle.last_known.left()).collect();
        let mut views = self.confirmed(left).await;
        if !views.is_empty() {
            // Both are in the order of the ids.
            let mut known = views.iter().map(|view| &view.id).peekable();
            handles.retain(|handle| known.next_if(|id| *id == handle.id()).is_none());
        }
        views.extend(see(&handles, Instant::now() + ANSWER_DEADLINE).await);
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    async fn confirmed(&self, left: Vec<(ContainerView, Evidence)>) -> Vec<ContainerView> {
        if left.is_empty() {
            return Vec::new();
        }
        let confirm = move |_: &Path| {
            let left = left.into_iter();
            let confirmed = left.filter(|(view, evidence)| evidence.confirms(view));
            confirmed.map(|(view, _)| view).collect()
        };
        match self.0.services.disks.run("look at processes in", Path::new("/proc"), confirm).await {
            Ok(confirmed) => confirmed,
            Err(error) => {
                tracing::warn!(%error, "a list of tasks waits until all are reattached to");
                Vec::new()
            }
        }
    }
}
