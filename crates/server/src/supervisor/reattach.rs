//! Takes up the containers of an earlier server: those that live go on as if nothing had been,
//! those that ended meanwhile are reported, and what was only half made is removed.
//!
//! The registry knows every container before the first request is served. Each is then taken up by
//! its own task, so that one whose shim hangs delays nobody; its requests wait for it.

use std::{sync::Arc, time::Duration};

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{EXIT_FILE, ExitFile, Identity as ProcessIdentity, STARTED_FILE, ToShim};
use tokio::time::timeout;

use super::{
    Services, Supervisor, SupervisorError,
    actor::{Actor, Member},
    create::Identity,
    forget::{Claim, Seen},
    handle::ContainerView,
    kill::Freezer,
    oom::ArmedOomWatch,
    process::RunningProcess,
};
use crate::{
    cgroup::Cgroup,
    domain::{ContainerKey, EventKind, ExitStatus, Life, Namespace, Phase, ProcessId, ProcessSpec},
    oci::OciRuntime,
    shim_link::{Report, ShimLink},
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, ProcessRecord},
    sys::{PidFd, process_start_time},
};

/// How long a shim may take to say how far its process has come. Later it still can; until then
/// the kernel is asked.
const SHIM_ANSWER: Duration = Duration::from_secs(2);

/// How long a process that is to be gone may take.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// How a process of an earlier server is found.
enum Found {
    Running(RunningProcess),
    Ended { pid: u32, status: ExitStatus },
}

impl Supervisor {
    pub(super) async fn reattach(&self) -> Result<(), SupervisorError> {
        let services = &self.0.services;
        for dir in services.state.removed()? {
            services.report_removed(&dir);
        }
        for (key, dir) in services.state.containers()? {
            match services.read_container(&key, &dir) {
                Some(kept) => self.take_up(key, dir, kept),
                None => {
                    if let Err(error) = dir.remove() {
                        tracing::error!(container = %key, %error, "leaves files behind");
                    }
                }
            }
        }
        Ok(())
    }

    fn take_up(
        &self,
        key: ContainerKey,
        dir: ContainerDir,
        (record, init): (ContainerRecord, ProcessRecord),
    ) {
        let services = Arc::clone(&self.0.services);
        let runtime = match services.runtime(&record.runtime, &record.runtime_args) {
            Ok(runtime) => runtime,
            Err(error) => {
                // Its processes can be watched without it, and it may come back.
                tracing::error!(container = %key, %error, "its runtime is missing");
                OciRuntime::missing(&record.runtime, &record.runtime_args)
            }
        };
        let lives = (record.life, init.life);
        let init_dir = dir.process(&ProcessId::init());
        // Its end can be in the journal where its files could not be removed.
        let reported = services.is_start_journalled(&key, lives, &init_dir)
            && !services.is_exit_journalled(&key, lives);
        let identity = Identity { key, life: record.life, dir, runtime, seen: Seen::default() };
        let (actor, mut handle) = Actor::new(services, self.registry(), identity, &init.spec);
        handle.half_made = !reported;
        if reported {
            actor.show_last_known(&record);
        }
        if let Err(error) = self.0.registry.reserve(&handle) {
            tracing::error!(container = %handle.key, %error, "cannot be taken up");
        } else if reported {
            tokio::spawn(actor.reattach(record));
        } else {
            tokio::spawn(actor.discard(record));
        }
    }
}

impl Services {
    /// A container whose end the earlier server was about to journal.
    fn report_removed(&self, dir: &ContainerDir) {
        match dir.read() {
            Ok(record) => {
                let key = ContainerKey { namespace: Namespace::Types, id: record.id };
                let init = dir.process(&ProcessId::init());
                let life = record.life;
                if self.is_start_journalled(&key, (life, life), &init)
                    && !self.is_exit_journalled(&key, (life, life))
                {
                    let status = exit_file(&init).unwrap_or(ExitStatus::Unknown);
                    let process = ProcessId::init();
                    self.events.append(&key, life, EventKind::Exited { process, life, status });
                    reach(Point::ServerMissedExitJournalled);
                }
            }
            // It was being removed, after its end was journalled.
            Err(error) if error.is_missing() => {}
            Err(error) => tracing::error!(%error, "the end of a container cannot be read"),
        }
        if let Err(error) = dir.remove() {
            tracing::error!(%error, "leaves files behind");
        }
    }

    fn is_start_journalled(
        &self,
        key: &ContainerKey,
        (life, process_life): (Life, Life),
        dir: &ProcessDir,
    ) -> bool {
        dir.is_journalled()
            || self.events.recorded(key, life, |event| match event {
                EventKind::ContainerStarted => process_life == life,
                EventKind::ProcessStarted { life, .. } => *life == process_life,
                _ => false,
            })
    }

    fn is_exit_journalled(&self, key: &ContainerKey, (life, process_life): (Life, Life)) -> bool {
        self.events.recorded(
            key,
            life,
            |event| matches!(event, EventKind::Exited { life, .. } if *life == process_life),
        )
    }

    /// Fills in what the state could not tell, from what still runs.
    async fn complete(&self, identity: &Identity, record: &mut ContainerRecord, found: &Found) {
        let Found::Running(process) = found else { return };
        identity.note_keeping();
        if record.cgroup.is_none() {
            record.cgroup = Cgroup::of_process(&self.hierarchies, process.pid).ok();
        }
        if record.bundle.as_os_str().is_empty()
            && let Ok(Some(state)) = self.runtimes.state(&identity.runtime, &identity.key.id).await
        {
            record.bundle = state.bundle;
        }
    }

    /// Looks for a process: its shim first, then the files that the shim left, then the kernel.
    async fn find(&self, dir: &ProcessDir) -> Found {
        let mut link = ShimLink::connect(dir.path()).ok();
        if let Some(connected) = link.take() {
            match timeout(SHIM_ANSWER, connected.receive()).await {
                Ok(Ok(Some(Report::Launched { pid, pidfd }))) => {
                    return Found::Running(RunningProcess {
                        pid,
                        pidfd: Arc::new(pidfd),
                        link: Some(Arc::new(connected)),
                        adoption: None,
                    });
                }
                // It never came to be, or the shim has just left.
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!(dir = %dir.path().display(), "the shim does not answer");
                    link = Some(connected);
                }
            }
        }
        let identity = dir.text(STARTED_FILE).as_deref().and_then(ProcessIdentity::from_json);
        let pid = identity.map_or(0, |identity| identity.pid);
        if let Some(status) = exit_file(dir) {
            return Found::Ended { pid, status };
        }
        match identity.as_ref().and_then(open) {
            Some(pidfd) => Found::Running(RunningProcess {
                pid,
                pidfd: Arc::new(pidfd),
                link: link.map(Arc::new),
                adoption: None,
            }),
            None => Found::Ended { pid, status: ExitStatus::Unknown },
        }
    }
}

/// What the shim left of its process's exit.
fn exit_file(dir: &ProcessDir) -> Option<ExitStatus> {
    let exit = dir.text(EXIT_FILE).as_deref().and_then(ExitFile::from_json)?;
    Some(exit.status.into())
}

/// The process, if its pid still means it.
fn open(identity: &ProcessIdentity) -> Option<PidFd> {
    let pidfd = PidFd::open(identity.pid).ok()?;
    let same = pidfd.inode().ok()? == identity.pidfd_inode
        && process_start_time(identity.pid)? == identity.start_time;
    same.then_some(pidfd)
}

impl Actor {
    /// What the earlier server knew, until the shim or the kernel says more.
    fn show_last_known(&self, record: &ContainerRecord) {
        let dir = self.identity.dir.process(&self.init.id);
        let started = dir.text(STARTED_FILE).as_deref().and_then(ProcessIdentity::from_json);
        let processes = started.map(|process| (Arc::clone(&self.init), process.pid));
        let view = ContainerView {
            bundle: record.bundle.clone(),
            labels: record.labels.clone(),
            phase: if record.paused { Phase::Paused } else { Phase::Running },
            processes: processes.into_iter().collect(),
            cgroup: record.cgroup.clone().map(Arc::new),
            ..self.view()
        };
        self.last_known.set(Some(view));
    }

    /// Takes the container up, then runs it.
    async fn reattach(mut self, mut record: ContainerRecord) {
        let services = Arc::clone(&self.services);
        let key = &self.identity.key;
        let found = services.find(&self.identity.dir.process(&self.init.id)).await;
        services.complete(&self.identity, &mut record, &found).await;
        let told = services.events.latest(key, record.life, |event| match event {
            EventKind::Paused => Some(true),
            EventKind::Resumed => Some(false),
            _ => None,
        });
        let paused = told.unwrap_or(record.paused);
        self.lifecycle.reattached(paused);
        self.cgroup = record.cgroup.clone().map(Arc::new);
        if let Some(cgroup) = &self.cgroup {
            let oom = ArmedOomWatch::arm(&key.id, cgroup, record.oom_kills);
            self.oom = oom.map(|oom| oom.run(self.mailbox.clone()));
            self.tell_pause(cgroup.is_frozen().unwrap_or(paused));
        }
        self.record = Some(record);
        self.reattach_execs(&services).await;

        let init = Arc::clone(&self.init);
        match found {
            Found::Running(process) => self.watch(init, process),
            Found::Ended { pid, status } => self.ended_meanwhile(init, (pid, status)),
        }
        self.run().await;
    }

    /// A process that ended while no server was there is known until its exit was told.
    fn ended_meanwhile(&mut self, spec: Arc<ProcessSpec>, (pid, status): (u32, ExitStatus)) {
        let id = spec.id.clone();
        self.members
            .insert(id.clone(), Member { spec, pid, pidfd: None, link: None, killed: false });
        self.exited(&id, status);
    }

    async fn reattach_execs(&mut self, services: &Services) {
        for dir in self.identity.dir.processes().unwrap_or_default() {
            if dir.id().is_some_and(|id| id.is_init()) {
                continue;
            }
            match services.read_exec(&dir) {
                Some(ProcessRecord { life, spec, .. }) => {
                    self.reattach_exec(services, &dir, (life, spec)).await;
                }
                None => self.discard_exec(&dir, services.find(&dir).await).await,
            }
        }
    }

    async fn reattach_exec(
        &mut self,
        services: &Services,
        dir: &ProcessDir,
        (life, spec): (Life, ProcessSpec),
    ) {
        let lives = (self.identity.life, life);
        let known = services.is_start_journalled(&self.identity.key, lives, dir)
            && !services.is_exit_journalled(&self.identity.key, lives);
        let found = services.find(dir).await;
        if !known {
            self.discard_exec(dir, found).await;
            reach(Point::ServerHalfMadeExecRemoved);
            return;
        }
        self.lifecycle.exec_reattached(spec.id.clone(), life);
        match found {
            Found::Running(process) => self.watch(Arc::new(spec), process),
            Found::Ended { pid, status } => self.ended_meanwhile(Arc::new(spec), (pid, status)),
        }
    }

    /// Removes a further process that nobody was told of.
    async fn discard_exec(&self, dir: &ProcessDir, found: Found) {
        let freezer = Freezer { init: false, ..self.freezer(&self.init.id) };
        end(found, freezer).await;
        if let Err(error) = dir.remove() {
            tracing::error!(%error, "leaves files behind");
        }
    }

    /// Removes a container whose start nobody was told of; its caller may try again.
    async fn discard(self, record: ContainerRecord) {
        let dir = self.identity.dir.process(&ProcessId::init());
        let freezer =
            Freezer { cgroup: record.cgroup.clone().map(Arc::new), ..self.freezer(&self.init.id) };
        end(self.services.find(&dir).await, freezer).await;
        reach(Point::ServerHalfMadeKilled);
        let claim = Claim::Failed { bundle: &record.bundle, taken: false };
        // What is not ours, it has said, and left.
        let _ = self.services.delete(&self.identity, record.own_cgroup(), claim).await;
        reach(Point::ServerHalfMadeDeleted);
        if let Err(error) = self.identity.dir.remove() {
            tracing::error!(container = %self.identity.key, %error, "leaves files behind");
        }
        reach(Point::ServerHalfMadeRemoved);
        self.registry.release_after(&self.identity.key, || ());
    }
}

/// Ends a process that nobody was told of. A shim that still launches one gives up when it finds
/// its connection closed.
async fn end(found: Found, freezer: Freezer) {
    let Found::Running(process) = found else { return };
    freezer.kill(process.pid, &process.pidfd);
    if timeout(KILL_DEADLINE, process.pidfd.exited()).await.is_err() {
        tracing::warn!(pid = process.pid, "a process does not die");
    }
    if let Some(link) = process.link {
        let _ = link.send(&ToShim::Ack);
    }
}
