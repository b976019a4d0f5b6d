//! What an earlier server left on disk of a container and its processes, as far as it can be read.

use gantry_failpoints::{Point, reach};

use super::Services;
use crate::{
    domain::{ContainerKey, ProcessId, ProcessSpec},
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, ProcessRecord, StateError},
};

impl Services {
    /// Reads what is left of a container and its first process; `None` if the server ended before
    /// there was a process. A damaged file is put away, and said so, and its content is as if empty:
    /// what runs goes on, and its exit is told.
    pub(super) fn read_container(
        &self,
        key: &ContainerKey,
        dir: &ContainerDir,
    ) -> Option<(ContainerRecord, ProcessRecord)> {
        let init = dir.process(&ProcessId::init());
        let (record, process) = (dir.read(), init.read());
        let missing = is_missing(&record) || is_missing(&process);
        if missing && !init.is_journalled() {
            return None;
        }
        let process = process.unwrap_or_else(|error| {
            let life = match &record {
                Ok(record) => record.life,
                Err(_) => self.lives.next(),
            };
            let spec = ProcessSpec::unknown(ProcessId::init());
            self.replace(&init, &error, ProcessRecord::new(life, spec))
        });
        let record = record.unwrap_or_else(|error| {
            self.put_away(&error);
            let record =
                ContainerRecord::new(key.id.clone(), process.life, std::path::PathBuf::new());
            if let Err(error) = dir.write(&record) {
                tracing::error!(container = %key, %error, "cannot write its state anew");
            }
            record
        });
        Some((record, process))
    }

    /// Reads what is left of a further process; `None` if nobody was told of it.
    pub(super) fn read_exec(&self, dir: &ProcessDir) -> Option<ProcessRecord> {
        match dir.read() {
            Ok(record) => Some(record),
            Err(_) if !dir.is_journalled() => None,
            Err(error) => {
                let spec = ProcessSpec::unknown(dir.id()?);
                Some(self.replace(dir, &error, ProcessRecord::new(self.lives.next(), spec)))
            }
        }
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
            error.damaged_file().map(|file| self.state.quarantine(file, self.lives.next()));
        tracing::error!(
            %error, ?moved_to,
            "state cannot be read; what runs goes on, and is known by its id only",
        );
        reach(Point::ServerPutAway);
    }
}

fn is_missing<T>(read: &Result<T, StateError>) -> bool {
    read.as_ref().is_err_and(StateError::is_missing)
}
