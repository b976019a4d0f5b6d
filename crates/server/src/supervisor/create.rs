//! Makes a container and starts its first process; undoes everything when that fails.

use std::{path::Path, sync::Arc};

use gantry_failpoints::{Point, reach};
use tokio::sync::oneshot;

use super::{
    Caller, Services, Supervisor, SupervisorError,
    actor::Actor,
    forget::{Claim, Seen},
    handle::{ContainerHandle, ContainerView, Reply},
    launch::{LaunchTurn, RuntimeCall},
    oom::ArmedOomWatch,
    process::RunningProcess,
    remains::Remaining,
    turns::Lane,
};
use crate::{
    bundle::Bundle,
    cgroup::Cgroup,
    checkpoint::{self, CheckpointImage},
    domain::{ContainerId, ContainerKey, Life, Namespace, ProcessId},
    oci::{Creation, Files, OciRuntime, Start},
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, ProcessRecord, StateError},
    sys::is_namespace_init,
};

/// A container that is to be.
#[derive(Debug)]
pub(crate) struct NewContainer {
    /// Who wants it.
    pub(crate) caller: Caller,
    pub(crate) id: ContainerId,
    pub(crate) bundle: Bundle,
    /// Empty: the server's default.
    pub(crate) runtime: String,
    pub(crate) runtime_args: Vec<String>,
    pub(crate) labels: Arc<[String]>,
    pub(crate) no_pivot_root: bool,
    /// What to restore it from.
    pub(crate) checkpoint: Option<CheckpointImage>,
}

/// What is known of a container before its first process has come to be.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) key: ContainerKey,
    pub(super) life: Life,
    pub(super) dir: ContainerDir,
    pub(super) runtime: OciRuntime,
    pub(super) seen: Seen,
}

impl Identity {
    /// What tells people whose a shim is.
    pub(super) fn owner(&self, bundle: &Path) -> [String; 3] {
        let bundle = bundle.to_string_lossy().into_owned();
        [self.key.id.to_string(), bundle, self.runtime.name().to_owned()]
    }
}

/// A container whose first process was started.
pub(super) struct Created {
    pub(super) process: RunningProcess,
    pub(super) record: ContainerRecord,
    pub(super) oom: Option<ArmedOomWatch>,
}

impl Supervisor {
    /// Makes a container and starts its first process. After an error, nothing of it is left.
    pub(crate) async fn create(
        &self,
        namespace: Namespace,
        new: NewContainer,
    ) -> Result<ContainerView, SupervisorError> {
        let permit = self.admit()?;
        let services = &self.0.services;
        let runtime = self.find_runtime(&new).await?;
        let key = ContainerKey { namespace, id: new.id.clone() };
        let dir = services.state.container(&key);
        services.remains.hurry(&key).await;
        let (handle, messages) = ContainerHandle::new(key.clone());
        services.registry.take(&handle).await?;
        let identity =
            Identity { key, life: services.lives.next(), dir, runtime, seen: Seen::default() };
        let init = new.bundle.init();
        let actor = Actor::new(Arc::clone(services), identity, init, (handle, messages));
        let (reply, answer) = oneshot::channel();
        tokio::spawn(actor.create(new, reply, permit));
        answer.await.unwrap_or(Err(SupervisorError::Bug))
    }

    /// It may be on a file system that does not answer.
    async fn find_runtime(&self, new: &NewContainer) -> Result<OciRuntime, SupervisorError> {
        let Services { settings, runtimes, disks, .. } = &*self.0.services;
        let (name, args) = (&new.runtime, &new.runtime_args);
        if !name.is_empty() {
            return Ok(runtimes.find_aside(disks, (name, args), true).await??);
        }
        let args: Vec<String> = settings.default_runtime_args.iter().chain(args).cloned().collect();
        Ok(runtimes.find_aside(disks, (&settings.default_runtime, &args), false).await??)
    }
}

/// Makes the container, unless its caller goes away meanwhile. What an earlier server or a killed
/// runtime left of this very container is removed first, if it turns out to be in the way.
pub(super) async fn bring_up(
    services: &Arc<Services>,
    identity: &Identity,
    new: &NewContainer,
    reply: &mut Reply<ContainerView>,
) -> Result<Created, SupervisorError> {
    let lane = Lane::Creates(new.bundle.path().parent().unwrap_or(Path::new("/")).to_owned());
    let turn = services.turn((new.caller, lane), reply).await?;
    let mut first = true;
    loop {
        let mut record = new_record(services, identity, new);
        match start(services, identity, new, (&mut record, &turn, reply)).await {
            Ok((process, oom)) => return Ok(Created { process, record, oom }),
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

fn new_record(services: &Services, identity: &Identity, new: &NewContainer) -> ContainerRecord {
    let mut record =
        ContainerRecord::new(identity.key.id.clone(), identity.life, new.bundle.path().to_owned());
    record.runtime.clone_from(&new.runtime);
    record.runtime_args.clone_from(&new.runtime_args);
    record.made_with = Some(identity.runtime.to_record());
    record.labels.clone_from(&new.labels);
    record.capability_list = new.bundle.has_capability_list();
    record.oom_score_adj = new.bundle.oom_score_adj();
    record.pid_namespace = new.bundle.has_pid_namespace();
    // The cgroup is known beforehand only where no cgroup manager chooses it; else it is looked up
    // between create and start, so that an out-of-memory kill in the first instant is seen.
    record.cgroup =
        new.bundle.cgroups_path().and_then(|path| Cgroup::predicted(&services.hierarchies, path));
    record
}

async fn start(
    services: &Services,
    identity: &Identity,
    new: &NewContainer,
    (record, turn, reply): (&mut ContainerRecord, &LaunchTurn, &mut Reply<ContainerView>),
) -> Result<(RunningProcess, Option<ArmedOomWatch>), SupervisorError> {
    let id = &identity.key.id;
    let init = identity.dir.process(&ProcessId::init());
    identity.dir.create(record)?;
    reach(Point::ServerContainerRecorded);
    let record_of_init = ProcessRecord::new(identity.life, new.bundle.init().clone());
    let shim = services.shims.place(&init, &record_of_init).await?;
    reach(Point::ServerInitPlaced);

    let start = match &new.checkpoint {
        Some(image) => Start::Restore { options: image.restore_options() },
        None if record.cgroup.is_some() => Start::Run,
        None => Start::Create,
    };
    let kills_before = record.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
    let creation =
        Creation { id, bundle: new.bundle.path(), no_pivot_root: new.no_pivot_root, start: &start };
    let call = |files: Files<'_>| {
        let env =
            new.checkpoint.as_ref().map(|image| restore_env(&init, image, files)).transpose()?;
        let argv = identity.runtime.create_argv(creation, files);
        Ok(RuntimeCall {
            runtime: identity.runtime.clone(),
            verb: start.verb(),
            argv,
            env: env.unwrap_or_default(),
            owner: identity.owner(new.bundle.path()),
            oom_score_adj: new.bundle.oom_score_adj(),
        })
    };
    let process =
        services.launch((shim, &init, new.bundle.init()), call, (turn, reply.closed())).await?;
    identity.note_keeping();

    if record.pid_namespace && is_namespace_init(process.pid) == Some(false) {
        // The runtime has read something else than what the bundle says.
        record.pid_namespace = false;
        identity.dir.write(record)?;
    }
    // Where it really is, unless it has ended already.
    if let Ok(cgroup) = Cgroup::of_process(&services.hierarchies, process.pid)
        && record.cgroup.as_ref() != Some(&cgroup)
    {
        record.cgroup = Some(cgroup);
        identity.dir.write(record)?;
        reach(Point::ServerCgroupRecorded);
    }
    let oom = record
        .cgroup
        .as_ref()
        .and_then(|cgroup| ArmedOomWatch::arm_by_and_by(id, cgroup, kills_before.unwrap_or(0)));
    if matches!(start, Start::Create)
        && let Err(error) = services.runtimes.start(&identity.runtime, id).await
    {
        let _ = process.pidfd.send_signal(nix::libc::SIGKILL);
        return Err(error.into());
    }
    reach(Point::ServerStarted);
    Ok((process, oom))
}

/// What CRIU is told beside the runtime's options.
fn restore_env(
    init: &ProcessDir,
    image: &CheckpointImage,
    files: Files<'_>,
) -> Result<Vec<String>, StateError> {
    init.write_text(checkpoint::CRIU_CONFIG_FILE, &image.criu_config())?;
    let path = files.dir.join(checkpoint::CRIU_CONFIG_FILE);
    Ok(vec![format!("{}={}", checkpoint::CRIU_CONFIG_VARIABLE, path.display())])
}

fn is_taken(error: &SupervisorError) -> bool {
    matches!(error, SupervisorError::Oci(error) if error.is_taken())
}

/// Leaves nothing of a container that did not come to be, nor of an earlier life that was in its way.
/// Another's container, of which the runtime was told without this server, is left alone.
async fn undo(
    services: &Arc<Services>,
    identity: &Identity,
    record: &ContainerRecord,
    taken: bool,
) -> Result<(), Remaining> {
    let claim = Claim::Failed { bundle: &record.bundle, taken };
    let deleted = services.delete(identity, record.cgroup.as_ref(), claim).await;
    if deleted.is_ok() {
        reach(Point::ServerUndoneInRuntime);
    }
    // What was there before, and is not known to be ours, is nothing to come back for.
    let not_ours = |error: &Remaining| error.is_anothers() || taken;
    services.abandon(identity, record, deleted.as_ref().err().is_none_or(not_ours));
    reach(Point::ServerUndone);
    deleted
}
