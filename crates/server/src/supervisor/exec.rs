//! Starts a further process in a container.

use super::{Services, SupervisorError, create::Identity, handle::Reply, process::RunningProcess};
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
    result
}

async fn start(
    services: &Services,
    identity: &Identity,
    (dir, life, spec): (&ProcessDir, Life, &ProcessSpec),
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    dir.create(&ProcessRecord::new(life, spec.clone()))?;
    dir.write_input(SPEC_FILE, &process_json(spec))?;
    let input = dir.path().join(SPEC_FILE);
    let argv = |files: Files<'_>| identity.runtime.exec_argv(&identity.key.id, &input, files);
    services.launch((dir, spec), argv, reply.closed()).await
}
