//! Teardown of a container: kills what is left and removes the rest.

use std::{path::Path, sync::Arc};

use gantry_failpoints::{Point, reach};
use gantry_kernel::cgroup::{Cgroup, CgroupError};
use gantry_runtime::OciError;

use crate::{
    NotOurs, Services, actor::Message, create::Identity, oom::OomTask, ownership::Claim,
    remains::Remaining,
};

/// A runtime killed during `delete`, by somebody or at its deadline, leaves its state; `delete --force` can
/// be repeated.
const DELETE_ATTEMPTS: u32 = 3;

impl Services {
    /// Kills what is left after init's exit. What cannot be killed now is killed when the container is
    /// removed.
    async fn kill_rest(&self, identity: &Identity, cgroup: Option<&Cgroup>) -> Option<Users> {
        let killed = self.kill_left(identity, cgroup).await;
        let warn = |error: &CgroupError| {
            tracing::warn!(container = %identity.key, %error, "cannot kill what is left");
        };
        killed.inspect_err(warn).ok()
    }

    async fn kill_left(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
    ) -> Result<Users, CgroupError> {
        let Some(cgroup) = cgroup else { return Ok(Users::None) };
        match self.kill_own(identity, cgroup).await {
            // That cgroup never was the container's alone: nothing is killed there.
            Err(error @ CgroupError::NotAContainer { .. }) => {
                tracing::warn!(%error, "processes in the cgroup are not killed");
                Ok(Users::Others)
            }
            other => other.map(|others| if others { Users::Others } else { Users::None }),
        }
    }

    /// Deletes the container in the runtime, unless the id is another's there, and its cgroup. The error says
    /// what is left.
    pub(crate) async fn delete(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
        claim: Claim<'_>,
    ) -> Result<(), Remaining> {
        self.require_deletable(identity, cgroup, claim).await?;
        let killed = self.kill_left(identity, cgroup).await;
        self.delete_killed(identity, cgroup, killed).await
    }

    async fn require_deletable(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
        claim: Claim<'_>,
    ) -> Result<(), Remaining> {
        if let Err(not_ours) = self.require_ours(identity, claim).await {
            tracing::warn!(container = %identity.key, error = %not_ours, "the runtime is not asked to delete it");
            if let Some(cgroup) = cgroup.filter(|_| matches!(claim, Claim::Ended)) {
                // What cannot be removed now is removed after the runtime's delete.
                let _ = self.leave_cgroup(identity, cgroup).await;
            }
            let is_anothers = matches!(not_ours, NotOurs::Another { .. })
                || matches!(claim, Claim::Failed { taken: true, .. });
            if let Some(bundle) = identity.bundle.as_ref().filter(|_| is_anothers) {
                self.remove_bundle(bundle).await?;
            }
            return Err(Remaining::NotOurs(not_ours));
        }
        Ok(())
    }

    async fn delete_killed(
        &self,
        identity: &Identity,
        cgroup: Option<&Cgroup>,
        killed: Result<Users, CgroupError>,
    ) -> Result<(), Remaining> {
        // A runtime kills what is in the cgroup that it removes, no matter whose that is.
        let shared = !matches!(killed, Ok(Users::None));
        let hidden: Vec<&Path> =
            cgroup.filter(|_| shared).into_iter().flat_map(Cgroup::around).collect();
        let deleted = self.delete_from_runtime(identity, &hidden).await;
        reach(Point::ServerRuntimeDeleted);
        let deleted = deleted.map_err(Remaining::Runtime);
        let left = match cgroup {
            Some(cgroup) => self.leave_cgroup(identity, cgroup).await.map_err(Remaining::Cgroup),
            None => Ok(()),
        };
        reach(Point::ServerCgroupRemoved);
        let gone = deleted.and(killed.map(drop).map_err(Remaining::Processes)).and(left);
        match &identity.bundle {
            // A process that lives may still use the bundle.
            Some(bundle) if gone.is_ok() => self.remove_bundle(bundle).await,
            _ => gone,
        }
    }

    async fn delete_from_runtime(
        &self,
        identity: &Identity,
        hidden: &[&Path],
    ) -> Result<(), OciError> {
        let (runtime, id) = (&identity.runtime, &identity.key.id);
        let delete = || async {
            let _turn = self.turn_of_end(runtime).await;
            self.runtimes.delete(runtime, id, hidden).await
        };
        let mut result = delete().await;
        for _ in 1..DELETE_ATTEMPTS {
            if !matches!(result, Err(OciError::Killed { .. } | OciError::Deadline { .. })) {
                break;
            }
            result = delete().await;
        }
        let Err(error) = result else { return Ok(()) };
        // Some runtimes refuse to delete what they do not know.
        if matches!(error, OciError::Refused { .. } | OciError::Wordless { .. })
            && matches!(self.ask_runtime(runtime, id).await, Ok(None))
        {
            return Ok(());
        }
        Err(error)
    }

    /// Removes the cgroup of a container that has ended, unless others use it.
    async fn leave_cgroup(&self, identity: &Identity, cgroup: &Cgroup) -> Result<(), CgroupError> {
        let pids = cgroup.pids()?;
        if !pids.is_empty() {
            tracing::info!(container = %identity.key, ?pids, "others use its cgroup, which stays");
            self.left_cgroups.add(cgroup, &self.state).await;
            return Ok(());
        }
        let left = match cgroup.remove() {
            Err(CgroupError::Removed) => Ok(()),
            other => other,
        };
        self.left_cgroups.sweep(&self.state).await;
        left
    }
}

/// Who is still in the cgroup after the container's own processes were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// Nobody, or there is no cgroup.
    None,
    /// Processes that are not the container's.
    Others,
}

/// First step of teardown after init's exit, up to [`Message::RestKilled`]; [`remove`] follows once every exec's
/// exit is reported.
pub(crate) async fn kill_rest(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
    oom: Option<OomTask>,
) -> Message {
    // Somebody may have made the cgroup again while no server ran.
    let users = match services.require_ours(&identity, Claim::Ended).await {
        Ok(_) => services.kill_rest(&identity, cgroup.as_ref()).await,
        Err(_) => None,
    };
    if let Some(oom) = oom {
        oom.recheck().await;
    }
    reach(Point::ServerCleared);
    Message::RestKilled(users)
}

/// Removes the container itself. `users` is what was found just before.
pub(crate) async fn remove(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
    users: Option<Users>,
) -> Message {
    let cgroup = cgroup.as_ref();
    let deleted = match users {
        Some(users) => match services.require_deletable(&identity, cgroup, Claim::Ended).await {
            Ok(()) => services.delete_killed(&identity, cgroup, Ok(users)).await,
            Err(not_ours) => Err(not_ours),
        },
        None => services.delete(&identity, cgroup, Claim::Ended).await,
    };
    Message::Removed(deleted)
}
