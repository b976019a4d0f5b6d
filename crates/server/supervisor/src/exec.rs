//! Starts a further process in a container.

use std::{path::PathBuf, sync::Arc, time::Duration};

use gantry_domain::{Generation, ProcessSpec};
use gantry_failpoints::{Point, reach};
use gantry_runtime::{Files, Verb, process_json};
use tokio::{sync::watch, time::sleep};

use crate::{
    Caller, Services, SupervisorError,
    create::Identity,
    handle::Reply,
    launch::{LaunchTurn, RuntimeCall},
    running_process::RunningProcess,
    state_dir::{ProcessDir, ProcessRecord},
    turns::Lane,
};

/// How long a launch may continue after init's exit, so that an exec that has just started, and ended the
/// container, is reported.
const LAST_CHANCE: Duration = Duration::from_millis(200);

/// What the runtime reads of the process, in the process's directory.
const SPEC_FILE: &str = "spec.json";

/// A process that is to be.
pub(crate) struct NewExec {
    /// Who wants it.
    pub(crate) caller: Caller,
    pub(crate) generation: Generation,
    pub(crate) spec: Arc<ProcessSpec>,
    /// The container's runtime takes capabilities as a plain list.
    pub(crate) capability_list: bool,
    pub(crate) bundle: PathBuf,
    /// The container's, which is that of its processes.
    pub(crate) oom_score_adj: Option<i32>,
    /// Whether the container's first process has ended.
    pub(crate) init_ended: watch::Receiver<bool>,
}

/// Starts the process, unless its caller goes away meanwhile, or the container's first process ends. After an error, nothing of it is
/// left.
pub(crate) async fn start_exec(
    services: &Services,
    identity: &Identity,
    new: &NewExec,
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    let lane = Lane::Execs(identity.key.clone());
    let turn = services.turn((new.caller, lane), reply).await?;
    let dir = identity.dir.process(&new.spec.id);
    let result = start(services, identity, (&dir, new), (&turn, reply)).await;
    if result.is_err() {
        dir.discard();
        reach(Point::ServerExecUndone);
    }
    result
}

async fn start(
    services: &Services,
    identity: &Identity,
    (dir, new): (&ProcessDir, &NewExec),
    (turn, reply): (&LaunchTurn, &mut Reply<u32>),
) -> Result<RunningProcess, SupervisorError> {
    let spec = &*new.spec;
    let record = ProcessRecord::new(new.generation, spec.clone());
    let shim = services.shims.place(dir, &record).await?;
    reach(Point::ServerExecPlaced);
    let call = |files: Files<'_>| {
        dir.write_input(SPEC_FILE, &process_json(spec, new.capability_list))?;
        reach(Point::ServerExecSpecWritten);
        let argv = identity.runtime.exec_argv(&identity.key.id, &files.dir.join(SPEC_FILE), files);
        Ok(RuntimeCall {
            runtime: identity.runtime.clone(),
            verb: Verb::Exec,
            argv,
            env: Vec::new(),
            owner: identity.owner(&new.bundle),
            oom_score_adj: new.oom_score_adj,
        })
    };
    let given_up = async {
        tokio::select! {
            () = reply.closed() => {}
            () = become_hopeless(new.init_ended.clone()) => {}
        }
    };
    services.launch((shim, dir, spec), call, (turn, given_up)).await
}

/// Resolves when the container's end makes the launch pointless. Teardown waits for launches, and a hanging
/// runtime must not delay it.
async fn become_hopeless(mut ended: watch::Receiver<bool>) {
    // An error means that the container's task is gone.
    let _ = ended.wait_for(|ended| *ended).await;
    sleep(LAST_CHANCE).await;
}
