//! Starts a further process in a container.

use gantry_failpoints::{Point, reach};

use super::{
    Services, SupervisorError, create::Identity, handle::Reply, launch::RuntimeCall,
    process::RunningProcess,
};
use crate::{
    domain::{Life, ProcessSpec},
    oci::{Files, process_json},
    state_dir::{ProcessDir, ProcessRecord},
};

/// What the runtime reads of the process, in the process's directory.
const SPEC_FILE: &str = "spec.json";

/// Starts the process, unless its caller goes away meanwhile. After an error, nothing of it is
/// left.
pub(super) async fn start_exec(
    services: &Services,
    identity: &Identity,
    (life, spec): (Life, &ProcessSpec),
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    let dir = identity.dir.process(&spec.id);
    let result = start(services, identity, (&dir, life, spec), reply).await;
    if result.is_err()
        && let Err(error) = dir.remove()
    {
        tracing::error!(container = %identity.key, %error, "a failed exec leaves files behind");
    }
    if result.is_err() {
        reach(Point::ServerExecUndone);
    }
    result
}

async fn start(
    services: &Services,
    identity: &Identity,
    (dir, life, spec): (&ProcessDir, Life, &ProcessSpec),
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    dir.create(&ProcessRecord::new(life, spec.clone()))?;
    reach(Point::ServerExecRecorded);
    dir.write_input(SPEC_FILE, &process_json(spec))?;
    reach(Point::ServerExecSpecWritten);
    let input = dir.path().join(SPEC_FILE);
    let call = |files: Files<'_>| RuntimeCall {
        argv: identity.runtime.exec_argv(&identity.key.id, &input, files),
        env: Vec::new(),
    };
    services.launch((dir, spec), call, reply.closed()).await
}
