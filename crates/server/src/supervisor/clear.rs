//! The end of a container: what is left in it is killed, and nothing of it stays.

use std::{sync::Arc, time::Duration};

use gantry_failpoints::{Point, reach};

use super::{NotOurs, Services, actor::Message, create::Identity, forget::Claim, oom::OomTask};
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
    /// Kills what is left in a container whose first process has ended.
    pub(super) async fn kill_rest(&self, identity: &Identity, cgroup: Option<&Cgroup>) {
        if let Some(cgroup) = cgroup
            && let Err(error) = cgroup.kill_all(KILL_DEADLINE).await
        {
            let error = chain(&error);
            tracing::warn!(container = %identity.key, error, "cannot kill what is left");
        }
    }

    /// Removes the container from the runtime, and its cgroup, unless the id is another's there.
    pub(super) async fn delete(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
        claim: Claim<'_>,
    ) -> Result<(), NotOurs> {
        let id = &identity.key.id;
        if let Err(not_ours) = self.require_ours(identity, claim).await {
            let error = chain(&not_ours);
            tracing::warn!(container = %identity.key, error, "the runtime is not told to delete it");
            if let Some(cgroup) = cgroup.filter(|_| matches!(claim, Claim::Ended)) {
                self.leave_cgroup(identity, cgroup);
            }
            return Err(not_ours);
        }
        let mut result = self.runtimes.delete(&identity.runtime, id).await;
        for _ in 1..DELETE_ATTEMPTS {
            if !matches!(result, Err(OciError::Killed { .. } | OciError::Deadline { .. })) {
                break;
            }
            result = self.runtimes.delete(&identity.runtime, id).await;
        }
        if let Err(error) = result {
            tracing::warn!(container = %identity.key, %error, "the runtime does not delete it");
        }
        reach(Point::ServerRuntimeDeleted);
        let Some(cgroup) = cgroup else { return Ok(()) };
        self.kill_rest(identity, Some(cgroup)).await;
        self.leave_cgroup(identity, cgroup);
        reach(Point::ServerCgroupRemoved);
        Ok(())
    }

    /// Removes the cgroup of a container that has ended, unless others use it.
    fn leave_cgroup(&self, identity: &Identity, cgroup: &Cgroup) {
        let left = match cgroup.pids() {
            Ok(pids) if !pids.is_empty() => {
                let container = &identity.key;
                tracing::info!(%container, ?pids, "others use its cgroup, which stays");
                return;
            }
            Ok(_) => cgroup.remove(),
            Err(error) => Err(error),
        };
        match left {
            Ok(()) | Err(CgroupError::Removed) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(container = %identity.key, error, "cannot remove its cgroup");
            }
        }
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
    // Whatever is left in the runtime, it has ended.
    let _ = services.delete(&identity, cgroup.as_ref(), Claim::Ended).await;
    Message::Removed
}
