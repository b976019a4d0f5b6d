//! The directories of a container and of a process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

use gantry_disk::{MayWait, OwnFiles};
use gantry_domain::{Exit, ProcessId, Timestamp};
use gantry_failpoints::{Point, reach};
use gantry_kernel::if_there;
use gantry_shim_proto::{EXIT_FILE, ExitFile, Identity as ProcessIdentity, STARTED_FILE};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
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

/// How the directories are read and written.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) files: OwnFiles,
    pub(super) trash: Trash,
    /// On a disk, a rename must not reach it before the content does.
    pub(super) sync: bool,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    pub(super) path: PathBuf,
    pub(super) is_aside: bool,
    pub(super) access: Access,
}

/// The directory of one process; the working directory of its shim.
#[derive(Debug, Clone)]
pub struct ProcessDir {
    pub(super) path: PathBuf,
    pub(super) access: Access,
}

impl ContainerDir {
    /// Does something with the directory on a thread that may wait for the disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &MayWait) -> T + Send + 'static,
    ) -> T {
        let dir = self.clone();
        self.access.files.run(move |wait| work(&dir, wait)).await
    }

    pub fn create(&self, record: &ContainerRecord, wait: &MayWait) -> Result<(), StateError> {
        create_private_dirs(&self.path)?;
        reach(Point::ServerDirectoryMade);
        self.write(record, wait)
    }

    pub fn write(&self, record: &ContainerRecord, _: &MayWait) -> Result<(), StateError> {
        write_json(&self.path.join(CONTAINER_FILE), record, self.access.sync)
    }

    pub fn read(&self, _: &MayWait) -> Result<ContainerRecord, StateError> {
        read_json(&self.path.join(CONTAINER_FILE))
    }

    pub fn process(&self, process: &ProcessId) -> ProcessDir {
        self.process_dir(self.path.join(PROCESSES).join(process.as_str()))
    }

    /// Makes the directory of a process that is started later.
    pub(crate) fn add_process(
        &self,
        record: &ProcessRecord,
        wait: &MayWait,
    ) -> Result<(), StateError> {
        let dir = self.process(&record.spec.id);
        // What an earlier process of this id left.
        dir.remove(wait)?;
        create_private_dirs(&dir.path)?;
        dir.write(record, wait)
    }

    fn process_dir(&self, path: PathBuf) -> ProcessDir {
        ProcessDir { path, access: self.access.clone() }
    }

    pub fn processes(&self, _: &MayWait) -> Result<Vec<ProcessDir>, StateError> {
        let mut found = Vec::new();
        let parent = self.path.join(PROCESSES);
        for name in list(&parent)? {
            found.push(self.process_dir(parent.join(name)));
        }
        Ok(found)
    }

    /// What cannot be removed now is removed later, if the directory is set aside: its name is not reused.
    pub fn remove(&self, _: &MayWait) -> Result<(), StateError> {
        if self.is_aside {
            self.access.trash.take_at_last(&self.path)
        } else {
            self.access.trash.take(&self.path)
        }
    }

    /// The same where nobody wants the result: a failure is logged, with what happens next.
    pub(crate) async fn discard(&self) {
        let Err(error) = self.run(Self::remove).await else { return };
        let path = self.path.display();
        if self.is_aside {
            tracing::error!(%path, %error, "cannot remove an ended container's state; retried until it is gone");
        } else {
            tracing::error!(%path, %error, "cannot remove a container's state; the next start of gantryd does");
        }
    }
}

impl ProcessDir {
    /// Does something with the directory on a thread that may wait for the disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &MayWait) -> T + Send + 'static,
    ) -> T {
        let dir = self.clone();
        self.access.files.run(move |wait| work(&dir, wait)).await
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames a new directory into place, with the shim that runs in it. What is in that place goes: an earlier process
    /// of this id whose exit could not be journalled, or the record of this one, which the next server has to find at
    /// any time.
    pub(crate) fn move_to(&self, place: &Self, wait: &MayWait) -> Result<(), StateError> {
        if let Some(parent) = place.path.parent() {
            create_private_dirs(parent)?;
        }
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &place.path, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => {
                if let Err(error) = self.remove(wait) {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "cannot remove a process's earlier state; the next start of gantryd does");
                }
                return Ok(());
            }
            // The file system cannot exchange two directories, see rename(2).
            Err(Errno::EINVAL | Errno::ENOSYS) => place.remove(wait)?,
            // There is nothing in that place, most often. The next call says what else it is.
            Err(_) => {}
        }
        fs::rename(&self.path, &place.path).map_err(failed("move", &self.path))
    }

    /// The id that the directory was made for.
    pub fn id(&self) -> Option<ProcessId> {
        ProcessId::parse(self.path.file_name()?.to_str()?).ok()
    }

    pub fn write(&self, record: &ProcessRecord, _: &MayWait) -> Result<(), StateError> {
        write_json(&self.path.join(PROCESS_FILE), record, self.access.sync)
    }

    pub fn read(&self, _: &MayWait) -> Result<ProcessRecord, StateError> {
        read_json(&self.path.join(PROCESS_FILE))
    }

    /// The end of a file that the runtime or the shim wrote, if it is there and a regular file, as
    /// [`file::read_tail`] gives.
    pub fn text(&self, file: &str, _: &MayWait) -> Result<Option<String>, StateError> {
        let path = self.path.join(file);
        match if_there(file::read_tail(&path)) {
            // Not a file, today or tomorrow.
            Err(error) if matches!(error.raw_os_error(), None | Some(nix::libc::ELOOP)) => Ok(None),
            other => other.map_err(failed("read", &path)),
        }
    }

    /// Who the process is, as its shim wrote down; `None` if it did not, or the file is damaged.
    pub fn started(&self, wait: &MayWait) -> Result<Option<ProcessIdentity>, StateError> {
        Ok(self.text(STARTED_FILE, wait)?.as_deref().and_then(ProcessIdentity::from_json))
    }

    /// How the process ended, as its shim wrote down; `None` if it did not, or the file is damaged.
    pub fn exit(&self, wait: &MayWait) -> Result<Option<Exit>, StateError> {
        let exit = self.text(EXIT_FILE, wait)?.as_deref().and_then(ExitFile::from_json);
        Ok(exit.map(|exit| Exit { status: exit.status.into(), at: Timestamp(exit.at) }))
    }

    /// Writes a file that the runtime reads.
    pub(crate) fn write_input(
        &self,
        file: &str,
        value: &impl Serialize,
        _: &MayWait,
    ) -> Result<(), StateError> {
        write_json(&self.path.join(file), value, false)
    }

    /// Writes a text that somebody else reads.
    pub(crate) fn write_text(&self, file: &str, text: &str, _: &MayWait) -> Result<(), StateError> {
        let path = self.path.join(file);
        fs::write(&path, text).map_err(failed("write", &path))
    }

    /// Notes the exit of the process, which is in the journal.
    pub(crate) fn note_exit(&self, exit: Exit, wait: &MayWait) -> Result<(), StateError> {
        let mut record = self.read(wait)?;
        record.exit = Some(exit);
        self.write(&record, wait)
    }

    /// Notes that the start of the process is in the journal.
    pub(crate) fn set_journalled(&self, _: &MayWait) -> Result<(), StateError> {
        let path = self.path.join(JOURNALLED_FILE);
        File::create(&path).map_err(failed("create", &path)).map(drop)
    }

    pub(crate) fn is_journalled(&self, _: &MayWait) -> Result<bool, StateError> {
        let path = self.path.join(JOURNALLED_FILE);
        path.try_exists().map_err(failed("look for", &path))
    }

    /// Returns once files can be changed here again.
    pub(crate) fn touch(&self, _: &MayWait) -> Result<(), StateError> {
        let touched = File::open(&self.path).and_then(|dir| dir.set_modified(SystemTime::now()));
        touched.map_err(failed("touch", &self.path))
    }

    pub fn remove(&self, _: &MayWait) -> Result<(), StateError> {
        self.access.trash.take(&self.path)
    }

    /// The same where nobody wants the result: a failure is logged, with what happens next.
    pub(crate) async fn discard(&self) {
        if let Err(error) = self.run(Self::remove).await {
            let path = self.path.display();
            tracing::error!(%path, %error, "cannot remove a process's state; it goes with the container's");
        }
    }
}
