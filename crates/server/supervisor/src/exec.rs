//! Starts further processes in a container, at once or once they were added.

use std::{path::PathBuf, sync::Arc, time::Duration};

use gantry_domain::{Generation, Phase, ProcessId, ProcessSpec, Refusal, Retention};
use gantry_failpoints::{Point, reach};
use gantry_runtime::{Files, Verb, process_json};
use tokio::{sync::watch, time::sleep};

use crate::{
    Caller, PipeOwner, Services, SupervisorError,
    actor::{Actor, Message, Process},
    create::Identity,
    handle::{DeletedProcess, Reply},
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

/// A further process that is to be started.
pub(crate) struct NewExec {
    /// Who asked for it.
    pub(crate) caller: Caller,
    pub(crate) generation: Generation,
    pub(crate) spec: Arc<ProcessSpec>,
    /// The bundle has capabilities as a plain list, as early versions of the OCI specification do.
    pub(crate) capability_list: bool,
    pub(crate) bundle: PathBuf,
    /// The container's, which all its processes get.
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) pipe_owner: PipeOwner,
    /// Whether the container's first process has ended.
    pub(crate) init_ended: watch::Receiver<bool>,
    pub(crate) retention: Retention,
}

/// Starts the process, unless its caller goes away meanwhile, or the container's first process ends. After an error,
/// nothing of it is left, or it can be started again.
pub(crate) async fn start_exec(
    services: &Services,
    identity: &Identity,
    new: &NewExec,
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    let lane = Lane::Execs(identity.key.clone());
    let turn = services.turn(new.caller, lane, reply).await?;
    let dir = identity.dir.process(&new.spec.id);
    let result = start(services, identity, &dir, new, &turn, reply).await;
    if result.is_err() {
        // The directory of a process that was added has its record, without which the next server would not know it.
        if new.retention == Retention::UntilExit {
            dir.discard().await;
        }
        reach(Point::ServerExecUndone);
    }
    result
}

async fn start(
    services: &Services,
    identity: &Identity,
    dir: &ProcessDir,
    new: &NewExec,
    turn: &LaunchTurn,
    reply: &mut Reply<u32>,
) -> Result<RunningProcess, SupervisorError> {
    let spec = &*new.spec;
    let record = ProcessRecord::new(new.generation, spec.clone());
    let input = process_json(spec, new.capability_list);
    let placed = services.shims.place(dir, record, move |dir, wait| {
        reach(Point::ServerExecPlaced);
        dir.write_input(SPEC_FILE, &input, wait)?;
        reach(Point::ServerExecSpecWritten);
        Ok(())
    });
    let placed = placed.await?;
    let call = |files: Files<'_>| {
        let argv = identity.runtime.exec_argv(&identity.key.id, &files.dir.join(SPEC_FILE), files);
        RuntimeCall {
            runtime: identity.runtime.clone(),
            verb: Verb::Exec,
            argv,
            env: Vec::new(),
            owner: identity.owner(&new.bundle),
            namespace: identity.key.namespace.clone(),
            oom_score_adj: new.oom_score_adj,
            pipe_owner: new.pipe_owner,
        }
    };
    let given_up = async {
        tokio::select! {
            () = reply.closed() => {}
            () = become_hopeless(new.init_ended.clone()) => {}
        }
    };
    services.launch(turn, placed, spec, call, given_up).await
}

/// Resolves when the container's end makes the launch pointless. Teardown waits for launches, and a hanging
/// runtime must not delay it.
async fn become_hopeless(mut ended: watch::Receiver<bool>) {
    // An error means that the container's task is gone.
    let _ = ended.wait_for(|ended| *ended).await;
    sleep(LAST_CHANCE).await;
}

impl Actor {
    /// Starts a process at once.
    pub(crate) async fn start_exec(
        &mut self,
        spec: Box<ProcessSpec>,
        caller: Caller,
        reply: Reply<u32>,
    ) {
        let admitted = self.admit_exec(*spec).await;
        self.launch_exec(admitted, caller, reply);
    }

    async fn admit_exec(
        &mut self,
        spec: ProcessSpec,
    ) -> Result<(Arc<ProcessSpec>, Generation), SupervisorError> {
        let generation = self.services.generations.next();
        self.services.require_same(&self.identity).await?;
        let admitted = self.lifecycle.admit_exec(&spec.id, generation);
        admitted.map_err(|refusal| self.refused(refusal))?;
        Ok((Arc::new(spec), generation))
    }

    /// Adds a process that is started later. It is known from now on, also after a restart of the server.
    pub(crate) async fn add_exec(&mut self, spec: ProcessSpec) -> Result<(), SupervisorError> {
        let generation = self.services.generations.next();
        let added = self.lifecycle.add_exec(&spec.id, generation);
        let event = added.map_err(|refusal| self.refused(refusal))?;
        let spec = Arc::new(spec);
        let record = ProcessRecord::new(generation, (*spec).clone());
        let added = self.identity.dir.run(move |dir, wait| dir.add_process(&record, wait)).await;
        if let Err(error) = added {
            let _ = self.lifecycle.exec_deleted(&spec.id);
            return Err(error.into());
        }
        self.processes.insert(spec.id.clone(), Process::without_process(spec, 0));
        self.publish(event).await;
        Ok(())
    }

    /// Starts a process that was added.
    pub(crate) async fn start_added(
        &mut self,
        process: &ProcessId,
        caller: Caller,
        reply: Reply<u32>,
    ) {
        let admitted = self.admit_added(process).await;
        self.launch_exec(admitted, caller, reply);
    }

    async fn admit_added(
        &mut self,
        process: &ProcessId,
    ) -> Result<(Arc<ProcessSpec>, Generation), SupervisorError> {
        let spec = Arc::clone(&self.known_process(process)?.spec);
        if self.is_dormant() {
            return Err(Refusal::Phase(Phase::Created).into());
        }
        self.services.require_same(&self.identity).await?;
        Ok((spec, self.lifecycle.admit_start(process)?))
    }

    fn launch_exec(
        &mut self,
        admitted: Result<(Arc<ProcessSpec>, Generation), SupervisorError>,
        caller: Caller,
        mut reply: Reply<u32>,
    ) {
        let (spec, generation) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                // A caller that is gone needs no answer.
                let _ = reply.send(Err(error));
                return;
            }
        };
        let record = self.record.as_ref();
        let init_ended = self.init_ended.subscribe();
        let new = NewExec {
            caller,
            generation,
            spec,
            capability_list: record.is_some_and(|record| record.capability_list),
            bundle: record.map(|record| record.bundle.clone()).unwrap_or_default(),
            init_ended,
            retention: self.lifecycle.retention(),
            oom_score_adj: record.and_then(|record| record.oom_score_adj),
            pipe_owner: record.map(|record| record.pipe_owner).unwrap_or_default(),
        };
        let (services, identity) = (Arc::clone(&self.services), self.identity.clone());
        self.work(async move {
            let result = start_exec(&services, &identity, &new, &mut reply).await;
            Message::ExecStarted { spec: new.spec, result, reply }
        });
    }

    pub(crate) async fn exec_started(
        &mut self,
        spec: Arc<ProcessSpec>,
        result: Result<RunningProcess, SupervisorError>,
        reply: Reply<u32>,
    ) {
        let process = match result {
            Ok(process) => process,
            Err(error) => {
                self.lifecycle.exec_failed(&spec.id);
                if let Some(added) = self.processes.get_mut(&spec.id) {
                    added.stdin_closed = false;
                }
                let _ = reply.send(Err(self.or_stopped(error)));
                self.go_on_ending(None).await;
                return;
            }
        };
        let pid = process.pid;
        // A caller of an exec that is kept can ask about it again.
        if reply.is_closed() && self.lifecycle.retention() == Retention::UntilExit {
            // The caller cancelled before the start was journalled: kill it, no event.
            self.freezer(&spec.id).kill(pid, &process.pidfd);
        } else if let Some(event) = self.lifecycle.exec_started(&spec.id, pid) {
            reach(Point::ServerExecToBeJournalled);
            self.publish(event).await;
            reach(Point::ServerExecJournalled);
            self.note_start(&spec.id).await;
            reach(Point::ServerExecNoted);
            self.hold(&spec, false).await;
        }
        self.watch(spec, process);
        let _ = reply.send(Ok(pid));
    }

    /// Deletes a process that has ended or was not started.
    pub(crate) async fn delete_exec(
        &mut self,
        process: &ProcessId,
    ) -> Result<DeletedProcess, SupervisorError> {
        let known = self.known_process(process)?;
        let pid = known.pid;
        let exit = self.exit_of(process);
        self.lifecycle.exec_deleted(process)?;
        self.processes.remove(process);
        // Its caller has received its exit; there is no event of a process's deletion.
        let Identity { key, generation, dir, .. } = &self.identity;
        self.services.events.mark_obsolete(key, *generation, process).await;
        dir.process(process).discard().await;
        self.waiters.refuse(process);
        Ok(DeletedProcess { pid, exit })
    }

    /// If the container ended during a runtime call, or is about to, that is the error for the caller: what the
    /// runtime says then (a fork without memory, for example) is about a namespace that is being removed.
    pub(crate) fn or_stopped(&self, error: SupervisorError) -> SupervisorError {
        let init = self.processes.get(&ProcessId::init());
        match error {
            SupervisorError::Oci(_) | SupervisorError::CallerGone
                if init.is_none_or(Process::is_ending) =>
            {
                Refusal::STOPPED.into()
            }
            other => other,
        }
    }
}
