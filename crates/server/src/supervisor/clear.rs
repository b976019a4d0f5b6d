//! The end of a container: what is left in it is killed, and nothing of it stays.

use std::{sync::Arc, time::Duration};

use gantry_failpoints::{Point, reach};

use super::{
    Services, actor::Message, create::Identity, forget::Claim, oom::OomTask, remains::Remaining,
};
use crate::{
    cgroup::{Cgroup, CgroupError},
    oci::OciError,
};

/// How long killed processes may take to be gone. A process that waits for a device that does not
/// answer (state D) cannot be killed; the container then ends without it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A runtime that is killed in the middle, by somebody or at its deadline, leaves its own state
/// behind; `delete --force` can be repeated.
const DELETE_ATTEMPTS: u32 = 3;

impl Services {
    /// Kills what is left in a container whose first process has ended. What cannot be killed now is
    /// once the container is to be removed.
    pub(super) async fn kill_rest(&self, identity: &Identity, cgroup: Option<&Cgroup>) {
        if let Err(error) = self.kill_within(KILL_DEADLINE, cgroup).await {
            let error = chain(&error);
            tracing::warn!(container = %identity.key, error, "cannot kill what is left");
        }
    }

    async fn kill_within(
        &self,
        time: Duration,
        cgroup: Option<&Cgroup>,
    ) -> Result<(), CgroupError> {
        let Some(cgroup) = cgroup else { return Ok(()) };
        match cgroup.kill_all(time).await {
            // It will never be the container's to kill in.
            Err(error @ CgroupError::NotAContainer { .. }) => {
                tracing::warn!(error = chain(&error), "nothing is killed");
                Ok(())
            }
            other => other,
        }
    }

    /// Removes the container from the runtime, and its cgroup, unless the id is another's there. An
    /// error tells what is left of it.
    pub(super) async fn delete(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
        claim: Claim<'_>,
    ) -> Result<(), Remaining> {
        if let Err(not_ours) = self.require_ours(identity, claim).await {
            let error = chain(&not_ours);
            tracing::warn!(container = %identity.key, error, "the runtime is not told to delete it");
            if let Some(cgroup) = cgroup.filter(|_| matches!(claim, Claim::Ended)) {
                // What cannot be removed now is when the runtime has been asked.
                let _ = leave_cgroup(identity, cgroup);
            }
            return Err(Remaining::NotOurs(not_ours));
        }
        let deleted = self.delete_from_runtime(identity).await.map_err(Remaining::Runtime);
        reach(Point::ServerRuntimeDeleted);
        let Some(cgroup) = cgroup else { return deleted };
        let killed = self.kill_within(KILL_DEADLINE, Some(cgroup)).await;
        let left = leave_cgroup(identity, cgroup).map_err(Remaining::Cgroup);
        reach(Point::ServerCgroupRemoved);
        deleted.and(killed.map_err(Remaining::Processes)).and(left)
    }

    async fn delete_from_runtime(&self, identity: &Identity) -> Result<(), OciError> {
        let (runtime, id) = (&identity.runtime, &identity.key.id);
        let mut result = self.runtimes.delete(runtime, id).await;
        for _ in 1..DELETE_ATTEMPTS {
            if !matches!(result, Err(OciError::Killed { .. } | OciError::Deadline { .. })) {
                break;
            }
            result = self.runtimes.delete(runtime, id).await;
        }
        let Err(error) = result else { return Ok(()) };
        // Some runtimes refuse to delete what they do not know.
        if matches!(error, OciError::Refused { .. })
            && matches!(self.runtimes.state(runtime, id).await, Ok(None))
        {
            return Ok(());
        }
        Err(error)
    }
}

/// Removes the cgroup of a container that has ended, unless others use it.
fn leave_cgroup(identity: &Identity, cgroup: &Cgroup) -> Result<(), CgroupError> {
    let pids = cgroup.pids()?;
    if !pids.is_empty() {
        tracing::info!(container = %identity.key, ?pids, "others use its cgroup, which stays");
        return Ok(());
    }
    match cgroup.remove() {
        Err(CgroupError::Removed) => Ok(()),
        other => other,
    }
}

/// An error and its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What the end of a container's first process sets off, step by step: [`Message::Cleared`], then,
/// once every further process was reported, [`remove`].
pub(super) async fn clear(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
    oom: Option<OomTask>,
) -> Message {
    // Somebody may have made it again while no server was there.
    if services.require_ours(&identity, Claim::Ended).await.is_ok() {
        services.kill_rest(&identity, cgroup.as_ref()).await;
    }
    if let Some(oom) = oom {
        oom.look().await;
    }
    reach(Point::ServerCleared);
    Message::Cleared
}

/// Removes the container itself.
pub(super) async fn remove(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
) -> Message {
    Message::Removed(services.delete(&identity, cgroup.as_ref(), Claim::Ended).await)
}
