//! What an earlier server left on disk of a container and its processes, as far as it can be read.

use std::{sync::Arc, thread::available_parallelism};

use gantry_disk::MayWait;
use gantry_domain::{
    ContainerKey, EventKind, Exit, ExitStatus, Generation, ProcessId, ProcessSpec, Retention,
};
use gantry_failpoints::{Point, reach};
use gantry_shim_proto::Identity;
use tokio::task::JoinSet;

use crate::{
    Services,
    running_process::now,
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, ProcessRecord, StateError},
};

/// A container as it was left.
pub(crate) struct Recovered {
    pub(crate) record: ContainerRecord,
    pub(crate) init: ProcessRecord,
    /// The first process, if it was ever started.
    pub(crate) started: Option<Identity>,
    /// Its start was published, and its exit was not.
    pub(crate) reported: bool,
    /// The first process's exit, if it was published and the container is kept nevertheless.
    pub(crate) exit: Option<Exit>,
}

impl Recovered {
    /// The server died before there was a process.
    fn without_process(record: ContainerRecord) -> Self {
        let spec = ProcessSpec::unknown(ProcessId::init());
        let init = ProcessRecord::new(record.generation, spec);
        Self { record, init, started: None, reported: false, exit: None }
    }

    /// Of the first process; zero if it was never started.
    pub(crate) fn pid(&self) -> u32 {
        self.started.map_or(0, |identity| identity.pid)
    }
}

/// A further process as it was left.
pub(crate) struct RecoveredExec {
    pub(crate) generation: Generation,
    pub(crate) spec: ProcessSpec,
    pub(crate) pid: u32,
    pub(crate) left: LeftExec,
}

/// What was published of a further process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftExec {
    /// Nothing, or its exit too, so that it is over.
    Nothing,
    /// That it can be started.
    Added,
    /// Its start.
    Started,
    /// Its exit; it is kept nevertheless.
    Ended(Exit),
}

/// The generations of a container and of a process in it: they identify one process among all with the same ids.
#[derive(Clone, Copy)]
struct Incarnation {
    container: Generation,
    process: Generation,
}

/// A container, and what is left of it: see [`Services::read_container`].
type Left = (ContainerKey, ContainerDir, Result<Option<Recovered>, StateError>);

/// Returned errors are transient (no free descriptor, say); a missing or damaged file is not an error.
impl Services {
    /// Reads all containers, on all processors.
    pub(crate) async fn read_containers(
        self: &Arc<Self>,
        mut containers: Vec<(ContainerKey, ContainerDir)>,
    ) -> Vec<Left> {
        let processors = available_parallelism().map_or(1, usize::from);
        let share = containers.len().div_ceil(processors).max(1);
        let mut readers = JoinSet::new();
        while !containers.is_empty() {
            let share = containers.split_off(containers.len().saturating_sub(share));
            let this = Arc::clone(self);
            let read = move |_: &_, wait: &MayWait| {
                let read = |(key, dir)| {
                    let left = this.read_container(&key, &dir, wait);
                    (key, dir, left)
                };
                share.into_iter().map(read).collect::<Vec<_>>()
            };
            let state = self.state.clone();
            readers.spawn(async move { state.run(read).await });
        }
        readers.join_all().await.into_iter().flatten().collect()
    }

    /// Reads the records of a container and its init; `None` if nothing but the records has to be removed. A
    /// corrupt file is moved to quarantine/, logged and replaced by a default record; the container keeps
    /// running.
    pub(crate) fn read_container(
        &self,
        key: &ContainerKey,
        dir: &ContainerDir,
        wait: &MayWait,
    ) -> Result<Option<Recovered>, StateError> {
        let init = dir.process(&ProcessId::init());
        let (record, process) = (readable(dir.read(wait))?, readable(init.read(wait))?);
        let waiting = record.as_ref().ok().and_then(ContainerRecord::waits_for_restore);
        let (is_published, process) = match waiting {
            Some(init) => (true, process.or(Ok(init))),
            None => (false, process),
        };
        let missing = is_missing(&record) || is_missing(&process);
        if missing && !init.is_journalled(wait)? {
            // Its root file system may be mounted, and is unmounted before its bundle is removed.
            let mounted = |record: &ContainerRecord| record.retention == Retention::UntilDeleted;
            return Ok(record.ok().filter(mounted).map(Recovered::without_process));
        }
        let process = process.unwrap_or_else(|error| {
            let generation = match &record {
                Ok(record) => record.generation,
                Err(_) => self.generations.next(),
            };
            let spec = ProcessSpec::unknown(ProcessId::init());
            self.replace(&init, &error, ProcessRecord::new(generation, spec), wait)
        });
        let record = record.unwrap_or_else(|error| {
            self.put_away(&error, wait);
            let record = ContainerRecord::new(key, process.generation, std::path::PathBuf::new());
            if let Err(error) = dir.write(&record, wait) {
                tracing::error!(container = %key, %error, "cannot write its state anew");
            }
            record
        });
        let started = init.started(wait)?;
        // Its exit can be in the journal although its files could not be removed.
        let which = Incarnation { container: record.generation, process: process.generation };
        let start_published = is_published || self.is_start_published(key, which, &init, wait)?;
        let exit = process.exit.or_else(|| self.published_exit(key, which));
        let (reported, exit) = match record.retention {
            Retention::UntilExit => (start_published && exit.is_none(), None),
            Retention::UntilDeleted => (start_published, exit),
        };
        Ok(Some(Recovered { record, init: process, started, reported, exit }))
    }

    /// Reads what is left of a further process; `None` if nothing of it was published.
    pub(crate) fn read_exec(
        &self,
        key: &ContainerKey,
        container: &ContainerRecord,
        dir: &ProcessDir,
        wait: &MayWait,
    ) -> Result<Option<RecoveredExec>, StateError> {
        let record = match readable(dir.read(wait))? {
            Ok(record) => record,
            Err(_) if !dir.is_journalled(wait)? => return Ok(None),
            Err(error) => {
                let Some(id) = dir.id() else { return Ok(None) };
                let record = ProcessRecord::new(self.generations.next(), ProcessSpec::unknown(id));
                self.replace(dir, &error, record, wait)
            }
        };
        let which = Incarnation { container: container.generation, process: record.generation };
        let start_published = self.is_start_published(key, which, dir, wait)?;
        let exit = record.exit.or_else(|| self.published_exit(key, which));
        let left = match (container.retention, exit) {
            (Retention::UntilExit, None) if start_published => LeftExec::Started,
            (Retention::UntilExit, _) => LeftExec::Nothing,
            (Retention::UntilDeleted, Some(exit)) => LeftExec::Ended(exit),
            (Retention::UntilDeleted, None) if start_published => LeftExec::Started,
            (Retention::UntilDeleted, None) => LeftExec::Added,
        };
        let pid = dir.started(wait)?.map_or(0, |identity| identity.pid);
        Ok(Some(RecoveredExec { generation: record.generation, spec: record.spec, pid, left }))
    }

    /// Reads the record of a container that was set aside, and the last event of its life if that was not
    /// published and others of it were; `None` if the record is already removed.
    pub(crate) fn read_removed(
        &self,
        dir: &ContainerDir,
        wait: &MayWait,
    ) -> Result<Option<(ContainerRecord, Option<EventKind>)>, StateError> {
        let record = match dir.read(wait) {
            Ok(record) => record,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = record.key();
        let init = dir.process(&ProcessId::init());
        let generation = record.generation;
        let which = Incarnation { container: generation, process: generation };
        if !self.is_start_published(&key, which, &init, wait)? {
            return Ok(Some((record, None)));
        }
        let (process, pid) = (ProcessId::init(), init.started(wait)?.map_or(0, |found| found.pid));
        let exit = || -> Result<Exit, StateError> {
            let unknown = || Exit { status: ExitStatus::Unknown, at: now() };
            Ok(init.exit(wait)?.unwrap_or_else(unknown))
        };
        let published = self.published_exit(&key, which);
        let unpublished = match (record.retention, published) {
            (Retention::UntilExit, Some(_)) => None,
            (Retention::UntilExit, None) => {
                Some(EventKind::Exited { process, generation, pid, exit: exit()? })
            }
            (Retention::UntilDeleted, published) => {
                let deleted = |event: &EventKind| matches!(event, EventKind::Deleted { .. });
                let kept = readable(init.read(wait))?.ok().and_then(|record| record.exit);
                let exit = published.or(kept).map_or_else(exit, Ok)?;
                let is_published = self.events.recorded(&key, generation, deleted);
                (!is_published).then_some(EventKind::Deleted { pid, exit })
            }
        };
        Ok(Some((record, unpublished)))
    }

    /// Whether the start of a process was published; for the first one of a kept container, its creation.
    fn is_start_published(
        &self,
        key: &ContainerKey,
        which: Incarnation,
        dir: &ProcessDir,
        wait: &MayWait,
    ) -> Result<bool, StateError> {
        let started = || {
            self.events.recorded(key, which.container, |event| match event {
                EventKind::ContainerStarted { .. } | EventKind::Created(_) => {
                    which.process == which.container
                }
                EventKind::ProcessStarted { generation, .. } => *generation == which.process,
                _ => false,
            })
        };
        Ok(dir.is_journalled(wait)? || started())
    }

    /// The exit of a process, if it was published.
    fn published_exit(&self, key: &ContainerKey, which: Incarnation) -> Option<Exit> {
        self.events.latest(key, which.container, |event| match event {
            EventKind::Exited { generation, exit, .. } if *generation == which.process => {
                Some(*exit)
            }
            _ => None,
        })
    }

    fn replace(
        &self,
        dir: &ProcessDir,
        error: &StateError,
        record: ProcessRecord,
        wait: &MayWait,
    ) -> ProcessRecord {
        self.put_away(error, wait);
        if let Err(error) = dir.write(&record, wait) {
            tracing::error!(%error, "cannot write the state of a process anew");
        }
        record
    }

    fn put_away(&self, error: &StateError, wait: &MayWait) {
        let moved_to = error
            .damaged_file()
            .map(|file| self.state.quarantine(file, self.generations.next(), wait));
        tracing::error!(
            %error, ?moved_to,
            "state cannot be read; what runs goes on, and is known by its id only",
        );
        reach(Point::ServerPutAway);
    }
}

/// Separates files that are missing or damaged from transient read errors.
fn readable<T>(read: Result<T, StateError>) -> Result<Result<T, StateError>, StateError> {
    match read {
        Err(error) if !error.is_missing() && error.damaged_file().is_none() => Err(error),
        answer => Ok(answer),
    }
}

fn is_missing<T>(read: &Result<T, StateError>) -> bool {
    read.as_ref().is_err_and(StateError::is_missing)
}
