//! Makes a container and starts its first process; undoes everything when that fails.

use std::{path::Path, sync::Arc};

use gantry_domain::{
    ContainerKey, Generation, Labels, Mount, Namespace, ProcessId, ProcessSpec, Retention,
};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{cgroup::Cgroup, is_namespace_init, ticks_since_boot};
use gantry_runtime::{
    Creation, Files, OciRuntime, Start,
    checkpoint::{self, CheckpointImage},
    step, traced,
};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::{
    Services, Supervisor, SupervisorError,
    actor::{Actor, Message},
    handle::{ContainerHandle, ContainerView, Reply},
    launch::{LaunchTurn, RuntimeCall},
    oom::ArmedOomWatch,
    ownership::{Claim, Seen},
    prepare::PreparedContainer,
    remains::Remaining,
    running_process::RunningProcess,
    state_dir::{ContainerDir, ContainerRecord, ProcessRecord, StateError, TaskBundle},
    turns::Lane,
};

/// What is known of a container before it has a first process.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) key: ContainerKey,
    pub(crate) generation: Generation,
    pub(crate) dir: ContainerDir,
    pub(crate) runtime: OciRuntime,
    pub(crate) seen: Seen,
    /// The bundle, if the server has made it.
    pub(crate) bundle: Option<TaskBundle>,
}

impl Identity {
    /// What shows people which container a shim belongs to.
    pub(crate) fn owner(&self, bundle: &Path) -> [String; 3] {
        let bundle = bundle.to_string_lossy().into_owned();
        [self.key.id.to_string(), bundle, self.runtime.name().to_owned()]
    }
}

/// A container that was made.
pub(crate) struct Created {
    /// None if the first process is restored when it is started.
    pub(crate) process: Option<RunningProcess>,
    pub(crate) record: ContainerRecord,
    pub(crate) oom: Option<ArmedOomWatch>,
    /// What is mounted as its root.
    pub(crate) rootfs: Vec<Mount>,
}

impl Supervisor {
    /// Makes a container and starts its first process. After an error, nothing of it is left.
    ///
    /// # Errors
    /// If the id is taken, or the runtime cannot make or start the container.
    pub async fn create(
        &self,
        namespace: Namespace,
        prepared: PreparedContainer,
    ) -> Result<ContainerView, SupervisorError> {
        let span = step("create");
        span.record("container.id", prepared.new.id.as_str());
        span.record("gantry.namespace", namespace.name());
        traced(span, self.create_container(namespace, prepared)).await
    }

    async fn create_container(
        &self,
        namespace: Namespace,
        prepared: PreparedContainer,
    ) -> Result<ContainerView, SupervisorError> {
        let permit = self.admit()?;
        let services = &self.0.services;
        let runtime = self.find_runtime(&prepared.new.runtime, &prepared.new.runtime_args).await?;
        let key = ContainerKey { namespace, id: prepared.new.id.clone() };
        let dir = services.state.container(&key);
        services.remains.hurry(&key).await;
        let (mut handle, messages) = ContainerHandle::new(key.clone());
        handle.idempotency.clone_from(&prepared.new.idempotency);
        while let Err(error) = services.registry.take(&handle).await {
            // The same request came again meanwhile, and is ahead of this one.
            let idempotency = prepared.new.idempotency.as_ref();
            match self.made_before(&handle.key.namespace, &handle.key.id, idempotency).await? {
                Some(view) => return Ok(view),
                None if services.registry.is_taken(&handle.key) => return Err(error),
                None => {}
            }
        }
        let retention = prepared.retention();
        let bundle = services.own_bundle(&key, retention, prepared.restore());
        let generation = services.generations.next();
        let seen = Seen::default();
        let runtime = runtime.in_bundle(bundle.as_ref().map(TaskBundle::path));
        let identity = Identity { key, generation, dir, runtime, seen, bundle };
        let init = Arc::new(prepared.bundle.init().clone());
        let actor = Actor::new(Arc::clone(services), identity, init, retention, handle, messages);
        let (reply, answer) = oneshot::channel();
        tokio::spawn(actor.create(prepared, reply, permit, Span::current()));
        answer.await.unwrap_or(Err(SupervisorError::Bug))
    }

    /// Finds a runtime, which may be on a file system that does not answer. An empty name is the server's default.
    pub(crate) async fn find_runtime(
        &self,
        name: &str,
        args: &[String],
    ) -> Result<OciRuntime, SupervisorError> {
        let Services { settings, runtimes, disks, .. } = &*self.0.services;
        if !name.is_empty() {
            return Ok(runtimes.find_aside(disks, name, args, true).await??);
        }
        let args: Vec<String> = settings.default_runtime_args.iter().chain(args).cloned().collect();
        Ok(runtimes.find_aside(disks, &settings.default_runtime, &args, false).await??)
    }
}

/// Makes the container, unless its caller disconnects. Leftovers of the same container, from an earlier
/// server or a killed runtime, are removed first if they are in the way.
pub(crate) async fn bring_up(
    services: &Arc<Services>,
    identity: &Identity,
    prepared: &PreparedContainer,
    mailbox: &mpsc::Sender<Message>,
    reply: &mut Reply<ContainerView>,
) -> Result<Created, SupervisorError> {
    let lane = Lane::Creates(prepared.bundle.path().parent().unwrap_or(Path::new("/")).to_owned());
    let turn = services.turn(prepared.new.caller, lane, reply).await?;
    // Before the shim opens the caller's pipes. The container's task is there, as it waits for this.
    let _ = mailbox.send(Message::Launching).await;
    let mut first = true;
    loop {
        let mut record = new_record(services, identity, prepared);
        match start(services, identity, prepared, &mut record, &turn, reply).await {
            Ok((process, oom)) => {
                let rootfs = prepared.task.as_ref().map(|task| task.rootfs.clone());
                let rootfs = rootfs.unwrap_or_default();
                return Ok(Created { process, record, oom, rootfs });
            }
            Err(error) => match undo(services, identity, &record, is_taken(&error)).await {
                Ok(()) if first && is_taken(&error) => first = false,
                Err(Remaining::NotOurs(not_ours)) if is_taken(&error) => {
                    return Err(not_ours.into());
                }
                _ => return Err(error),
            },
        }
    }
}

fn new_record(
    services: &Services,
    identity: &Identity,
    prepared: &PreparedContainer,
) -> ContainerRecord {
    let mut record =
        ContainerRecord::new(&identity.key, identity.generation, prepared.bundle.path().to_owned());
    record.begun_at = ticks_since_boot().ok();
    record.runtime.clone_from(&prepared.new.runtime);
    record.runtime_args.clone_from(&prepared.new.runtime_args);
    record.made_with = Some(identity.runtime.to_record());
    record.retention = prepared.retention();
    record.restore = prepared.restore().cloned();
    // Callers of `types.API` read their labels again; those of a task are for monitors alone.
    record.labels_left_out =
        prepared.task.is_some() && Labels::of(&prepared.new.labels) == Labels::TooLong;
    if !record.labels_left_out {
        record.labels.clone_from(&prepared.new.labels);
    }
    record.idempotency.clone_from(&prepared.new.idempotency);
    record.capability_list = prepared.bundle.has_capability_list();
    record.oom_score_adj = prepared.bundle.oom_score_adj();
    record.pipe_owner = prepared.task.as_ref().map(|task| task.pipe_owner).unwrap_or_default();
    record.pid_namespace = prepared.bundle.has_pid_namespace();
    // The cgroup is known beforehand only where no cgroup manager chooses it; else it is looked up
    // between create and start, so that an out-of-memory kill in the first instant is seen.
    record.cgroup = prepared
        .bundle
        .cgroups_path()
        .and_then(|path| Cgroup::predicted(&services.hierarchies, path));
    record
}

/// What a first process is started with.
pub(crate) struct FirstProcess<'a> {
    pub(crate) spec: &'a ProcessSpec,
    pub(crate) start: Start,
    /// Settings for CRIU that the runtime has no options for.
    pub(crate) criu_config: Option<String>,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
}

/// Starts the first process, unless it is restored when it is started.
async fn start(
    services: &Services,
    identity: &Identity,
    prepared: &PreparedContainer,
    record: &mut ContainerRecord,
    turn: &LaunchTurn,
    reply: &mut Reply<ContainerView>,
) -> Result<(Option<RunningProcess>, Option<ArmedOomWatch>), SupervisorError> {
    let new = record.clone();
    identity.dir.run(move |dir, wait| dir.create(&new, wait)).await?;
    if let Some(image) = prepared.task.as_ref().and_then(|task| task.image.as_ref()) {
        image.take();
    }
    reach(Point::ServerContainerRecorded);
    if let (Some(bundle), Some(task)) = (&identity.bundle, &prepared.task) {
        services.make_bundle(bundle, task).await?;
        reach(Point::ServerBundleMade);
    }
    let spec = prepared.bundle.init();
    if record.restore.is_some() {
        let init = ProcessRecord::new(identity.generation, spec.clone());
        identity.dir.run(move |dir, wait| dir.add_process(&init, wait)).await?;
        return Ok((None, None));
    }
    let start = match &prepared.image {
        Some(image) => Start::Restore { options: image.restore_options() },
        None if record.cgroup.is_some() && prepared.task.is_none() => Start::Run,
        None => Start::Create,
    };
    let starts_later = matches!(start, Start::Create) && prepared.task.is_none();
    let first = FirstProcess {
        spec,
        start,
        criu_config: prepared.image.as_ref().map(CheckpointImage::criu_config),
        no_pivot_root: prepared.new.no_pivot_root,
        no_new_keyring: prepared.task.as_ref().is_some_and(|task| task.no_new_keyring),
    };
    let (process, oom) =
        launch_first(services, identity, first, record, turn, reply.closed()).await?;
    if starts_later
        && let Err(error) = services.runtimes.start(&identity.runtime, &identity.key.id).await
    {
        let _ = process.pidfd.send_signal(nix::libc::SIGKILL);
        return Err(error.into());
    }
    reach(Point::ServerStarted);
    Ok((Some(process), oom))
}

/// Has the runtime make the container, and finds out its cgroup.
pub(crate) async fn launch_first(
    services: &Services,
    identity: &Identity,
    first: FirstProcess<'_>,
    record: &mut ContainerRecord,
    turn: &LaunchTurn,
    given_up: impl Future<Output = ()>,
) -> Result<(RunningProcess, Option<ArmedOomWatch>), SupervisorError> {
    let id = &identity.key.id;
    let init = identity.dir.process(&ProcessId::init());
    let record_of_init = ProcessRecord::new(identity.generation, first.spec.clone());
    let criu = first.criu_config.clone();
    let placed = services.shims.place(&init, record_of_init, move |init, wait| {
        reach(Point::ServerInitPlaced);
        criu.map_or(Ok(()), |criu| init.write_text(checkpoint::CRIU_CONFIG_FILE, &criu, wait))
    });
    let placed = placed.await?;

    let kills_before = record.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
    let creation = Creation {
        id,
        bundle: &record.bundle,
        no_pivot_root: first.no_pivot_root,
        no_new_keyring: first.no_new_keyring,
        start: &first.start,
    };
    let call = |files: Files<'_>| {
        let env = first.criu_config.as_ref().map(|_| criu_variable(files));
        let argv = identity.runtime.create_argv(creation, files);
        RuntimeCall {
            runtime: identity.runtime.clone(),
            verb: first.start.verb(),
            argv,
            env: env.into_iter().collect(),
            owner: identity.owner(&record.bundle),
            namespace: identity.key.namespace.clone(),
            oom_score_adj: record.oom_score_adj,
            pipe_owner: record.pipe_owner,
        }
    };
    let process = services.launch(turn, placed, first.spec, call, given_up).await?;
    services.note_keeping(identity).await;

    if matches!(first.start, Start::Create) && record.retention == Retention::UntilDeleted {
        record.waits_in = services.program(&record.bundle, process.pid).await;
    }
    let is_shared = record.pid_namespace && is_namespace_init(process.pid) == Some(false);
    if is_shared {
        // The runtime has read another config.json than the server.
        record.pid_namespace = false;
    }
    // The cgroup that the process really is in, unless it has ended already.
    let cgroup = Cgroup::of_process(&services.hierarchies, process.pid).ok();
    let found = cgroup.filter(|cgroup| record.cgroup.as_ref() != Some(cgroup));
    let is_found = found.is_some();
    record.cgroup = found.or(record.cgroup.take());
    if record.waits_in.is_some() || is_shared || is_found {
        write(identity, record).await?;
    }
    if is_found {
        reach(Point::ServerCgroupRecorded);
    }
    let oom = record
        .cgroup
        .as_ref()
        .and_then(|cgroup| ArmedOomWatch::arm_by_and_by(id, cgroup, kills_before.unwrap_or(0)));
    Ok((process, oom))
}

/// Notes that nothing more is made of the container. A process whose runtime and shim were killed while they made it
/// becomes this server's child, and nobody's whom the next server knows: that one knows it by the time of its start.
pub(crate) async fn note_failure(identity: &Identity, record: &ContainerRecord) {
    let mut record = record.clone();
    record.failed_at = ticks_since_boot().ok();
    if let Err(error) = write(identity, &record).await {
        tracing::warn!(
            container = %identity.key, %error,
            "cannot record that it is not made; it is removed now, or by a restarted gantryd if that can tell whose it is",
        );
    }
    reach(Point::ServerFailureNoted);
}

async fn write(identity: &Identity, record: &ContainerRecord) -> Result<(), StateError> {
    let record = record.clone();
    identity.dir.run(move |dir, wait| dir.write(&record, wait)).await
}

/// The variable that names the file with further settings for CRIU.
fn criu_variable(files: Files<'_>) -> String {
    let path = files.dir.join(checkpoint::CRIU_CONFIG_FILE);
    format!("{}={}", gantry_runtime::CRIU_CONFIG_VARIABLE, path.display())
}

/// Whether the runtime has a container of this id.
pub(crate) fn is_taken(error: &SupervisorError) -> bool {
    matches!(error, SupervisorError::Oci(error) if error.is_taken())
}

/// Removes everything of a container that failed to start, and of an earlier generation in its way. A
/// container that was made without this server is left alone.
async fn undo(
    services: &Arc<Services>,
    identity: &Identity,
    record: &ContainerRecord,
    taken: bool,
) -> Result<(), Remaining> {
    if !taken {
        note_failure(identity, record).await;
    }
    let claim = Claim::Failed { record, taken };
    let deleted = services.delete(identity, record.cgroup.as_ref(), claim).await;
    if deleted.is_ok() {
        reach(Point::ServerUndoneInRuntime);
    }
    // What was there before, and is not known to be ours, is not retried; the bundle is ours.
    let not_ours = |error: &Remaining| error.is_anothers() || taken && !error.is_of_bundle();
    services.abandon(identity, record, deleted.as_ref().err().is_none_or(not_ours)).await;
    reach(Point::ServerUndone);
    deleted
}
