//! Finds out what became of an earlier server's container and its processes.

use std::sync::Arc;

use gantry_domain::{Exit, ProcessId, Retention};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{
    cgroup::{Cgroup, CgroupError},
    given_oom_score_adj, is_namespace_init, until_answered,
};
use tokio::task::JoinSet;

use crate::{
    Services,
    create::Identity,
    find::{Found, find},
    half_made::{discard_exec, end},
    kill::Freezer,
    oom::ArmedOomWatch,
    recovered_state::{LeftExec, RecoveredExec},
    running_process::RunningProcess,
    state_dir::{ContainerDir, ContainerRecord, ProcessDir},
};

/// A container of an earlier server, as it is found.
pub(crate) struct Reattached {
    pub(crate) record: ContainerRecord,
    /// Whether it is paused, if that can be read.
    pub(crate) frozen: Option<bool>,
    pub(crate) oom: Option<ArmedOomWatch>,
    /// None if its exit was published.
    pub(crate) init: Option<Found>,
    /// The runtime has started the first process, and that was not published.
    pub(crate) unpublished_start: bool,
    /// Each with what was found of it, if it was started and its exit is not known.
    pub(crate) execs: Vec<(RecoveredExec, Option<Found>)>,
}

impl Services {
    /// Where a further process may be frozen.
    pub(crate) fn freezer(&self, record: &ContainerRecord) -> Freezer {
        Freezer {
            hierarchies: Arc::clone(&self.hierarchies),
            cgroup: record.cgroup.clone().map(Arc::new),
            init: false,
        }
    }

    /// Completes the record from what still runs.
    async fn complete(
        &self,
        identity: &Identity,
        record: &mut ContainerRecord,
        process: &RunningProcess,
    ) {
        self.note_keeping(identity).await;
        if record.cgroup.is_none() {
            let ask = || async {
                match Cgroup::of_process(&self.hierarchies, process.pid) {
                    Err(error @ CgroupError::Io { .. }) => Err(error),
                    answer => Ok(answer.ok()),
                }
            };
            let what = format!("find the cgroup of {}", identity.key);
            record.cgroup = until_answered(what, ask).await;
        }
        // Servers before these fields did not record them.
        if record.made_with.is_none() {
            record.oom_score_adj =
                record.oom_score_adj.or_else(|| given_oom_score_adj(process.pid));
            record.pid_namespace |= is_namespace_init(process.pid) == Some(true);
        }
        if record.bundle.as_os_str().is_empty()
            && let Ok(Some(state)) = self.ask_runtime(&identity.runtime, &identity.key.id).await
        {
            record.bundle = state.bundle;
        }
    }

    /// Examines a container and its processes. Fails if no descriptor is left for its OOM watch; what was
    /// opened is closed again, so that others have room.
    pub(crate) async fn inspect(
        self: Arc<Self>,
        identity: &Identity,
        mut record: ContainerRecord,
        exit: Option<Exit>,
    ) -> Result<Reattached, CgroupError> {
        let dir = identity.dir.process(&ProcessId::init());
        let execs = Arc::clone(&self).inspect_execs(identity, &record);
        let init = async {
            match exit {
                Some(_) => None,
                None => Some(find(&dir).await),
            }
        };
        let (init, execs) = tokio::join!(init, execs);
        if let Some(Found::Running(process)) = &init {
            self.complete(identity, &mut record, process).await;
        }
        let lives = matches!(init, Some(Found::Running(_)));
        let pid = init.as_ref().map_or(0, Found::pid);
        let is_created = record.retention == Retention::UntilDeleted && !record.started;
        let (init, is_restored) = self.inspect_restore(identity, &record, init).await;
        let unpublished_start =
            is_restored || is_created && lives && self.has_started(identity, &record, pid).await;
        let oom = match &record.cgroup {
            Some(cgroup) if lives => {
                ArmedOomWatch::arm(&identity.key.id, cgroup, record.oom_kills)?
            }
            _ => None,
        };
        let frozen = record.cgroup.as_ref().and_then(|cgroup| cgroup.is_frozen().ok());
        // What has ended is not paused: a runtime may have been killed while it froze what it was to remove.
        let frozen = frozen.filter(|frozen| lives || !frozen);
        Ok(Reattached { record, frozen, oom, init, unpublished_start, execs })
    }

    /// All at once, as each of their shims may hang.
    async fn inspect_execs(
        self: Arc<Self>,
        identity: &Identity,
        record: &ContainerRecord,
    ) -> Vec<(RecoveredExec, Option<Found>)> {
        let mut inspections = JoinSet::new();
        for dir in exec_dirs(identity).await {
            let (services, identity) = (Arc::clone(&self), identity.clone());
            let record = record.clone();
            inspections.spawn(async move { services.inspect_exec(&identity, &dir, &record).await });
        }
        inspections.join_all().await.into_iter().flatten().collect()
    }

    /// Further processes of which something was published, as their records have them: no shim is asked.
    pub(crate) async fn recorded_execs(
        self: Arc<Self>,
        identity: &Identity,
        record: &ContainerRecord,
    ) -> Vec<RecoveredExec> {
        let mut execs = Vec::new();
        for dir in exec_dirs(identity).await {
            execs.extend(self.recorded_exec(identity, &dir, record).await);
        }
        execs.retain(|exec| exec.left != LeftExec::Nothing);
        execs
    }

    async fn recorded_exec(
        self: &Arc<Self>,
        identity: &Identity,
        dir: &ProcessDir,
        record: &ContainerRecord,
    ) -> Option<RecoveredExec> {
        let read = || {
            let (this, key, record) = (Arc::clone(self), identity.key.clone(), record.clone());
            dir.run(move |dir, wait| this.read_exec(&key, &record, dir, wait))
        };
        until_answered(format!("read {}", dir.path().display()), read).await
    }

    /// `None`, and its files are removed, if its start was not published, or its exit was.
    async fn inspect_exec(
        self: Arc<Self>,
        identity: &Identity,
        dir: &ProcessDir,
        record: &ContainerRecord,
    ) -> Option<(RecoveredExec, Option<Found>)> {
        let exec = self.recorded_exec(identity, dir, record).await;
        let left = exec.as_ref().map_or(LeftExec::Nothing, |exec| exec.left);
        match left {
            LeftExec::Ended(_) => exec.map(|exec| (exec, None)),
            LeftExec::Started => {
                let found = find(dir).await;
                exec.map(|exec| (exec, Some(found)))
            }
            // A launch may have been under way.
            LeftExec::Added => {
                end(find(dir).await, self.freezer(record)).await;
                exec.map(|exec| (exec, None))
            }
            LeftExec::Nothing => {
                discard_exec(dir, find(dir).await, self.freezer(record)).await;
                if exec.is_some() {
                    reach(Point::ServerHalfMadeExecRemoved);
                }
                None
            }
        }
    }

    /// Whether the runtime has started a container of which only the creation was published.
    async fn has_started(&self, identity: &Identity, record: &ContainerRecord, pid: u32) -> bool {
        if self.has_left(record.waits_in, &record.bundle, pid).await {
            return true;
        }
        match self.ask_runtime(&identity.runtime, &identity.key.id).await {
            Ok(state) => state.is_some_and(|state| !state.is_created()),
            Err(error) => {
                tracing::warn!(
                    container = %identity.key, %error,
                    "cannot ask whether it was started; it is shown as created",
                );
                false
            }
        }
    }
}

/// The directories of further processes.
async fn exec_dirs(identity: &Identity) -> Vec<ProcessDir> {
    let list = || identity.dir.run(ContainerDir::processes);
    let what = format!("list the processes of {}", identity.key);
    let mut dirs = until_answered(what, list).await;
    dirs.retain(|dir| !dir.id().is_some_and(|id| id.is_init()));
    dirs
}
