//! Tasks that are restored from an image: nothing of them runs before they are started.

use std::{path::Path, sync::Arc};

use gantry_domain::{Exit, ExitStatus, Phase, ProcessId};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{cgroup::Cgroup, ticks_since_boot};
use gantry_runtime::{Start, bundle::Bundle, checkpoint::Image};

use crate::{
    Caller, OwnImage, Services, Supervisor, SupervisorError, TaskRuntime,
    actor::{Actor, Message, Process},
    create::{FirstProcess, Identity, is_taken, launch_first, note_failure},
    find::Found,
    handle::Reply,
    oom::ArmedOomWatch,
    operation::{Activity, Operation, Waiting},
    ownership::Claim,
    running_process::{RunningProcess, now},
    state_dir::{ContainerRecord, ProcessRecord, RestoreRecord},
    turns::Lane,
};

/// In a task's bundle, for CRIU's logs.
const WORK_DIR: &str = "criu-work";

/// A first process that was restored.
pub(crate) struct Restored {
    process: RunningProcess,
    record: ContainerRecord,
    oom: Option<ArmedOomWatch>,
}

impl Supervisor {
    /// What a task is to be restored from, if it is. The image is there.
    pub(crate) async fn restore_of(
        &self,
        runtime: &TaskRuntime,
        own: Option<&OwnImage>,
        bundle: &Bundle,
    ) -> Result<Option<RestoreRecord>, SupervisorError> {
        let own = own.map(|own| own.path().to_owned());
        let owned = own.is_some();
        let Some(image) = own.or_else(|| runtime.criu_image.clone()) else { return Ok(None) };
        let work = runtime.criu_work.clone().unwrap_or_else(|| bundle.path().join(WORK_DIR));
        Image::find(&self.0.services.disks, &image, &work).await?;
        let (no_pivot_root, init) = (runtime.no_pivot_root, bundle.init().clone());
        Ok(Some(RestoreRecord { image, owned, work, no_pivot_root, init, published: false }))
    }
}

impl Actor {
    /// Whether there is no first process before the task is started.
    pub(crate) fn is_dormant(&self) -> bool {
        let is_restored = self.record.as_ref().is_some_and(|record| record.restore.is_some());
        let known = self.processes.get(&ProcessId::init());
        is_restored
            && self.lifecycle.phase() == Phase::Created
            && known.is_some_and(|known| known.pid == 0)
    }

    /// The task is created, and known from now on, also after a restart of the server.
    pub(crate) async fn wait_for_restore(&mut self) {
        let process = Process::without_process(Arc::clone(&self.init), 0);
        self.processes.insert(self.init.id.clone(), process);
        let Some(record) = &mut self.record else { return };
        if let Some(restore) = &mut record.restore {
            restore.published = true;
        }
        let record = record.clone();
        if let Err(error) = self.identity.dir.run(move |dir, wait| dir.write(&record, wait)).await {
            tracing::error!(container = %self.identity.key, %error, "cannot record a creation; the journal has it for as long as it keeps the event");
        }
    }

    /// Ends a task of which nothing ever ran.
    pub(crate) async fn end_dormant(&mut self) {
        let exit = Exit { status: ExitStatus::Signal(9), at: now() };
        self.exited(&ProcessId::init(), exit).await;
    }

    /// Has the runtime restore the first process.
    pub(crate) async fn start_restored(&mut self, caller: Caller, mut reply: Reply<u32>) {
        let record = match self.admit_operation(Operation::Start(Waiting::default())).await {
            Ok(_) => self.record.clone(),
            Err(error) => {
                // A caller that is gone needs no answer.
                let _ = reply.send(Err(error));
                return;
            }
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.work(async move {
            let result = match record {
                Some(record) => restore(&services, &identity, record, caller, &mut reply).await,
                None => Err(SupervisorError::Bug),
            };
            Message::Restored { result: result.map(Box::new), reply }
        });
    }

    pub(crate) async fn restored(
        &mut self,
        result: Result<Box<Restored>, SupervisorError>,
        reply: Reply<u32>,
    ) {
        self.activity = Activity::Idle;
        let Restored { process, record, oom } = match result {
            Ok(restored) => *restored,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        reach(Point::ServerOperated);
        let pid = process.pid;
        self.cgroup = record.cgroup.clone().map(Arc::new);
        self.record = Some(record);
        self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
        self.publish_start(pid).await;
        if let Some(record) = &self.record {
            self.services.remove_used_image(record);
        }
        self.hold(&self.init, false).await;
        self.watch(Arc::clone(&self.init), process);
        let _ = reply.send(Ok(pid));
    }
}

/// Restores the first process, unless its caller goes away meanwhile. After an error it can be tried again.
async fn restore(
    services: &Services,
    identity: &Identity,
    mut record: ContainerRecord,
    caller: Caller,
    reply: &mut Reply<u32>,
) -> Result<Restored, SupervisorError> {
    let restore = record.restore.clone().ok_or(SupervisorError::Bug)?;
    let lane = Lane::Creates(record.bundle.parent().unwrap_or(Path::new("/")).to_owned());
    let turn = services.turn(caller, lane, reply).await?;
    // It may have changed since.
    let image = Image::find(&services.disks, &restore.image, &restore.work).await?;
    image.make_work_dir(&services.disks).await?;
    let first = FirstProcess {
        spec: &restore.init,
        start: Start::Restore { options: image.restore_options() },
        criu_config: Some(image.criu_config()),
        no_pivot_root: restore.no_pivot_root,
        // What is restored has the keyring that it had.
        no_new_keyring: false,
    };
    // A process is known to be ours by having been started in this attempt, not since the task was created.
    record.begun_at = ticks_since_boot().ok();
    let launched =
        launch_first(services, identity, first, &mut record, &turn, reply.closed()).await;
    match launched {
        Ok((process, oom)) => Ok(Restored { process, record, oom }),
        Err(error) => {
            // Whatever has the id then is not what was to be restored.
            let is_taken = is_taken(&error);
            if !is_taken {
                note_failure(identity, &record).await;
            }
            services.undo_restore(identity, &record, is_taken).await;
            let init = ProcessRecord::new(identity.generation, restore.init);
            if let Err(error) =
                identity.dir.run(move |dir, wait| dir.add_process(&init, wait)).await
            {
                tracing::error!(container = %identity.key, %error, "cannot record a process that is to be restored");
            }
            Err(error)
        }
    }
}

impl Services {
    /// Removes what a restore that failed has left in the runtime and the kernel. The bundle stays. If the runtime said
    /// that the id was taken, what has it may be another's.
    async fn undo_restore(&self, identity: &Identity, record: &ContainerRecord, taken: bool) {
        let identity = Identity { bundle: None, ..identity.clone() };
        let cgroup: Option<&Cgroup> = record.cgroup.as_ref();
        let claim = Claim::Failed { record, taken };
        if let Err(error) = self.delete(&identity, cgroup, claim).await {
            tracing::warn!(container = %identity.key, %error, "something of a failed restore remains until the task is deleted");
        }
    }

    /// What became of the first process of a task that may wait to be restored: none if it still waits.
    /// And whether it was restored without its start having been published.
    pub(crate) async fn inspect_restore(
        &self,
        identity: &Identity,
        record: &ContainerRecord,
        found: Option<Found>,
    ) -> (Option<Found>, bool) {
        if record.restore.is_none() || record.started {
            return (found, false);
        }
        match found {
            Some(Found::Ended { pid: 0, .. }) => {
                // A restore may have been under way.
                self.undo_restore(identity, record, false).await;
                (None, false)
            }
            found => {
                let is_restored = found.is_some();
                (found, is_restored)
            }
        }
    }
}
