//! The directories of a container and of a process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use gantry_domain::{Exit, ProcessId, Timestamp};
use gantry_failpoints::{Point, reach};
use gantry_kernel::if_there;
use gantry_shim_proto::{EXIT_FILE, ExitFile, Identity as ProcessIdentity, STARTED_FILE};
use serde::Serialize;

use super::{
    ContainerRecord, ProcessRecord, StateError,
    error::failed,
    file::{self, create_private_dirs, list, read_json, write_json},
    trash::Trash,
};

const PROCESSES: &str = "processes";
const CONTAINER_FILE: &str = "container.json";
const PROCESS_FILE: &str = "process.json";
const JOURNALLED_FILE: &str = "journalled";

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    pub(super) path: PathBuf,
    pub(super) is_aside: bool,
    pub(super) trash: Trash,
    pub(super) sync: bool,
}

/// The directory of one process; the working directory of its shim.
#[derive(Debug, Clone)]
pub struct ProcessDir {
    pub(super) path: PathBuf,
    pub(super) trash: Trash,
    pub(super) sync: bool,
}

impl ContainerDir {
    pub fn create(&self, record: &ContainerRecord) -> Result<(), StateError> {
        create_private_dirs(&self.path)?;
        reach(Point::ServerDirectoryMade);
        self.write(record)
    }

    pub fn write(&self, record: &ContainerRecord) -> Result<(), StateError> {
        write_json(&self.path.join(CONTAINER_FILE), record, self.sync)
    }

    pub fn read(&self) -> Result<ContainerRecord, StateError> {
        read_json(&self.path.join(CONTAINER_FILE))
    }

    pub fn process(&self, process: &ProcessId) -> ProcessDir {
        self.process_dir(self.path.join(PROCESSES).join(process.as_str()))
    }

    /// Makes the directory of a process that is started later.
    pub(crate) fn add_process(&self, record: &ProcessRecord) -> Result<(), StateError> {
        let dir = self.process(&record.spec.id);
        // What an earlier process of this id left.
        dir.remove()?;
        create_private_dirs(&dir.path)?;
        dir.write(record)
    }

    fn process_dir(&self, path: PathBuf) -> ProcessDir {
        ProcessDir { path, trash: self.trash.clone(), sync: self.sync }
    }

    pub fn processes(&self) -> Result<Vec<ProcessDir>, StateError> {
        let mut found = Vec::new();
        let parent = self.path.join(PROCESSES);
        for name in list(&parent)? {
            found.push(self.process_dir(parent.join(name)));
        }
        Ok(found)
    }

    /// What cannot be removed now is removed later, if the directory is set aside: its name is not reused.
    pub fn remove(&self) -> Result<(), StateError> {
        if self.is_aside {
            self.trash.take_at_last(&self.path)
        } else {
            self.trash.take(&self.path)
        }
    }

    /// The same where nobody waits for the result: a failure is logged, with what happens next.
    pub(crate) fn discard(&self) {
        let Err(error) = self.remove() else { return };
        let path = self.path.display();
        if self.is_aside {
            tracing::error!(%path, %error, "cannot remove an ended container's state; retried until it is gone");
        } else {
            tracing::error!(%path, %error, "cannot remove a container's state; the next start of gantryd does");
        }
    }
}

impl ProcessDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames a new directory into place, with the shim that runs in it.
    pub(crate) fn move_to(&self, place: &Self) -> Result<(), StateError> {
        // What an earlier process of this id left while its exit could not be journalled.
        place.remove()?;
        if let Some(parent) = place.path.parent() {
            create_private_dirs(parent)?;
        }
        fs::rename(&self.path, &place.path).map_err(failed("move", &self.path))
    }

    /// The id that the directory was made for.
    pub fn id(&self) -> Option<ProcessId> {
        ProcessId::parse(self.path.file_name()?.to_str()?).ok()
    }

    pub fn write(&self, record: &ProcessRecord) -> Result<(), StateError> {
        write_json(&self.path.join(PROCESS_FILE), record, self.sync)
    }

    pub fn read(&self) -> Result<ProcessRecord, StateError> {
        read_json(&self.path.join(PROCESS_FILE))
    }

    /// The end of a file that the runtime or the shim wrote, if it is there and a regular file, as
    /// [`file::read_tail`] gives.
    pub fn text(&self, file: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(file);
        match if_there(file::read_tail(&path)) {
            // Not a file, today or tomorrow.
            Err(error) if matches!(error.raw_os_error(), None | Some(nix::libc::ELOOP)) => Ok(None),
            other => other.map_err(failed("read", &path)),
        }
    }

    /// Who the process is, as its shim wrote down; `None` if it did not, or the file is damaged.
    pub fn started(&self) -> Result<Option<ProcessIdentity>, StateError> {
        Ok(self.text(STARTED_FILE)?.as_deref().and_then(ProcessIdentity::from_json))
    }

    /// How the process ended, as its shim wrote down; `None` if it did not, or the file is damaged.
    pub fn exit(&self) -> Result<Option<Exit>, StateError> {
        let exit = self.text(EXIT_FILE)?.as_deref().and_then(ExitFile::from_json);
        Ok(exit.map(|exit| Exit { status: exit.status.into(), at: Timestamp(exit.at) }))
    }

    /// Writes a file that the runtime reads.
    pub(crate) fn write_input(&self, file: &str, value: &impl Serialize) -> Result<(), StateError> {
        write_json(&self.path.join(file), value, false)
    }

    /// Writes a text that somebody else reads.
    pub(crate) fn write_text(&self, file: &str, text: &str) -> Result<(), StateError> {
        let path = self.path.join(file);
        fs::write(&path, text).map_err(failed("write", &path))
    }

    /// Notes the exit of the process, which is in the journal.
    pub(crate) fn note_exit(&self, exit: Exit) -> Result<(), StateError> {
        let mut record = self.read()?;
        record.exit = Some(exit);
        self.write(&record)
    }

    /// Notes that the start of the process is in the journal.
    pub(crate) fn set_journalled(&self) -> Result<(), StateError> {
        let path = self.path.join(JOURNALLED_FILE);
        File::create(&path).map_err(failed("create", &path)).map(drop)
    }

    pub(crate) fn is_journalled(&self) -> Result<bool, StateError> {
        let path = self.path.join(JOURNALLED_FILE);
        path.try_exists().map_err(failed("look for", &path))
    }

    pub fn remove(&self) -> Result<(), StateError> {
        self.trash.take(&self.path)
    }

    /// The same where nobody waits for the result: a failure is logged, with what happens next.
    pub(crate) fn discard(&self) {
        if let Err(error) = self.remove() {
            let path = self.path.display();
            tracing::error!(%path, %error, "cannot remove a process's state; it goes with the container's");
        }
    }
}
