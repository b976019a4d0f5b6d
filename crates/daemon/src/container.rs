//! One container of the store: its record, in memory and on disk, and its lock.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{Result, json_file, model::Record};

const RECORD: &str = "container.json";

/// What its program writes, see [`Container::output`].
pub(crate) const OUTPUT: &str = "output.log";

/// A container. Everything that belongs to it is below its own directory.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    dir: PathBuf,
    record: watch::Sender<Record>,
    /// Keeps two changes of the record from overwriting each other.
    writing: Mutex<()>,
    /// Held by whoever starts, clears up or removes it.
    pub(crate) operation: tokio::sync::Mutex<()>,
}

impl Container {
    pub(crate) fn new(containers: &Path, record: Record) -> Container {
        let dir = containers.join(&record.id);
        Container {
            id: record.id.clone(),
            dir,
            record: watch::Sender::new(record),
            writing: Mutex::default(),
            operation: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn load(containers: &Path, id: &str) -> Result<Container> {
        let record = json_file::read(&containers.join(id).join(RECORD))?;
        Ok(Container::new(containers, record))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What it is now.
    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// To wait for a change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Record> {
        self.record.subscribe()
    }

    /// Writes the record as it is.
    pub(crate) fn save(&self) -> Result<()> {
        self.write(&self.record())
    }

    /// Changes the record, first on disk: if that fails nothing is changed.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = self.record();
        change(&mut record);
        self.write(&record)?;
        self.record.send_replace(record);
        Ok(())
    }

    /// Notes what has happened: true whether it can be written down or not.
    pub(crate) fn observe(&self, change: impl FnOnce(&mut Record)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = self.record();
        change(&mut record);
        if let Err(error) = self.write(&record) {
            tracing::error!(container = self.id, %error, "state not saved");
        }
        self.record.send_replace(record);
    }

    fn write(&self, record: &Record) -> Result<()> {
        json_file::write(&self.dir.join(RECORD), record)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its root filesystem is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Where gantryd finds config.json.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// What its program writes.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join(OUTPUT)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::time::Duration;

    use crate::model::{
        Bridge, Config, Networking, Resources, RestartPolicy, Root, RootSource, User,
    };

    /// Something to run on a bridge.
    pub(crate) fn config() -> Config {
        Config {
            args: vec!["true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            user: User::default(),
            terminal: false,
            root: Root { source: RootSource::Directory("/srv".into()), read_only: false },
            mounts: Vec::new(),
            hostname: None,
            domainname: None,
            networking: Networking::Bridge(Bridge {
                networks: vec!["web".into()],
                ports: Vec::new(),
                aliases: Vec::new(),
            }),
            restart: RestartPolicy::No,
            auto_remove: false,
            stop_signal: "TERM".into(),
            stop_timeout: Duration::from_secs(10),
            runtime: String::new(),
            runtime_args: Vec::new(),
            resources: Resources::default(),
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            seccomp_unconfined: false,
            labels: Default::default(),
        }
    }
}
