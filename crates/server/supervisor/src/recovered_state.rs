//! What an earlier server left on disk of a container and its processes, as far as it can be read.

use gantry_domain::{
    ContainerKey, EventKind, Exit, ExitStatus, Generation, ProcessId, ProcessSpec,
};
use gantry_failpoints::{Point, reach};

use crate::{
    Services,
    running_process::now,
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, ProcessRecord, StateError},
};

/// A container as it was left.
pub(crate) struct Recovered {
    pub(crate) record: ContainerRecord,
    pub(crate) init: ProcessRecord,
    /// Of the first process; zero if it never came to be.
    pub(crate) pid: u32,
    /// Its start was told, and its end was not.
    pub(crate) reported: bool,
}

/// A further process as it was left.
pub(crate) struct RecoveredExec {
    pub(crate) generation: Generation,
    pub(crate) spec: ProcessSpec,
    /// Its start was told, and its end was not.
    pub(crate) reported: bool,
}

/// One process among all that have had its id, in one container among all that have had that one's.
#[derive(Clone, Copy)]
struct Incarnation {
    container: Generation,
    process: Generation,
}

/// Returned errors are transient (no free descriptor, say); a missing or damaged file is not an error.
impl Services {
    /// Reads the records of a container and its init; `None` if the server died before there was a process. A
    /// corrupt file is moved to quarantine/, logged and replaced by a default record; the container keeps
    /// running.
    pub(crate) fn read_container(
        &self,
        key: &ContainerKey,
        dir: &ContainerDir,
    ) -> Result<Option<Recovered>, StateError> {
        let init = dir.process(&ProcessId::init());
        let (record, process) = (readable(dir.read())?, readable(init.read())?);
        let missing = is_missing(&record) || is_missing(&process);
        if missing && !init.is_journalled()? {
            return Ok(None);
        }
        let process = process.unwrap_or_else(|error| {
            let generation = match &record {
                Ok(record) => record.generation,
                Err(_) => self.generations.next(),
            };
            let spec = ProcessSpec::unknown(ProcessId::init());
            self.replace(&init, &error, ProcessRecord::new(generation, spec))
        });
        let record = record.unwrap_or_else(|error| {
            self.put_away(&error);
            let record = ContainerRecord::new(key, process.generation, std::path::PathBuf::new());
            if let Err(error) = dir.write(&record) {
                tracing::error!(container = %key, %error, "cannot write its state anew");
            }
            record
        });
        let pid = init.started()?.map_or(0, |identity| identity.pid);
        // Its end can be in the journal where its files could not be removed.
        let reported = self.is_untold(
            key,
            Incarnation { container: record.generation, process: process.generation },
            &init,
        )?;
        Ok(Some(Recovered { record, init: process, pid, reported }))
    }

    /// Reads what is left of a further process; `None` if nobody was told of it.
    pub(crate) fn read_exec(
        &self,
        (key, container): (&ContainerKey, Generation),
        dir: &ProcessDir,
    ) -> Result<Option<RecoveredExec>, StateError> {
        let record = match readable(dir.read())? {
            Ok(record) => record,
            Err(_) if !dir.is_journalled()? => return Ok(None),
            Err(error) => {
                let Some(id) = dir.id() else { return Ok(None) };
                let record = ProcessRecord::new(self.generations.next(), ProcessSpec::unknown(id));
                self.replace(dir, &error, record)
            }
        };
        let reported =
            self.is_untold(key, Incarnation { container, process: record.generation }, dir)?;
        Ok(Some(RecoveredExec { generation: record.generation, spec: record.spec, reported }))
    }

    /// Reads the record of a container that was set aside, and its exit if the start was published and the
    /// exit was not; `None` if the record is already removed.
    pub(crate) fn read_removed(
        &self,
        dir: &ContainerDir,
    ) -> Result<Option<(ContainerRecord, Option<Exit>)>, StateError> {
        let record = match dir.read() {
            Ok(record) => record,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = record.key();
        let init = dir.process(&ProcessId::init());
        let of_init = Incarnation { container: record.generation, process: record.generation };
        let untold = match self.is_untold(&key, of_init, &init)? {
            true => Some(
                init.exit()?.unwrap_or_else(|| Exit { status: ExitStatus::Unknown, at: now() }),
            ),
            false => None,
        };
        Ok(Some((record, untold)))
    }

    /// Whether the start of a process was told, and its end was not.
    fn is_untold(
        &self,
        key: &ContainerKey,
        which: Incarnation,
        dir: &ProcessDir,
    ) -> Result<bool, StateError> {
        let recorded =
            |what: &dyn Fn(&EventKind) -> bool| self.events.recorded(key, which.container, what);
        let started = || {
            recorded(&|event| match event {
                EventKind::ContainerStarted { .. } => which.process == which.container,
                EventKind::ProcessStarted { generation, .. } => *generation == which.process,
                _ => false,
            })
        };
        let ended = || {
            recorded(&|event| match event {
                EventKind::Exited { generation, .. } => *generation == which.process,
                _ => false,
            })
        };
        Ok((dir.is_journalled()? || started()) && !ended())
    }

    fn replace(
        &self,
        dir: &ProcessDir,
        error: &StateError,
        record: ProcessRecord,
    ) -> ProcessRecord {
        self.put_away(error);
        if let Err(error) = dir.write(&record) {
            tracing::error!(%error, "cannot write the state of a process anew");
        }
        record
    }

    fn put_away(&self, error: &StateError) {
        let moved_to =
            error.damaged_file().map(|file| self.state.quarantine(file, self.generations.next()));
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
