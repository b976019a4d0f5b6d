//! Reattaches to, or ends, the containers that the daemon started before it was restarted.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_api::{INIT, status};
use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    client::Client,
    container::Container,
    ended::ended,
    error::{Error, ErrorKind, Result},
    exits::{Exit, ExitSlot, Key},
    process::Process,
    signal::Signal,
    state::find_container,
    stdio::{Owner, ProcessStdio},
};

/// How long a container may take to end after SIGTERM when the daemon gives it up.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// How long its exit may take after SIGKILL; what takes longer hangs in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// What a restarted daemon does with its containers that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restore {
    /// Reattaches to them, pipes included ("live restore").
    Reattach,
    /// Ends them.
    Stop,
}

/// What became of a container while the daemon was away.
#[derive(Debug)]
pub enum Restored {
    /// It still runs; its streams are open again, and execs can be attached to with
    /// [`Container::attach`].
    Running(Container),
    /// It has ended, or was ended now.
    #[non_exhaustive]
    Exited {
        /// Its status; 255 if the server does not remember it or could not end it.
        exit: Exit,
        /// What is left of its output.
        stdio: ProcessStdio,
    },
}

impl Client {
    /// Finds out what became of a container that the daemon has a record of.
    pub async fn restore(&self, id: &str, bundle: &Path, how: Restore) -> Result<Restored> {
        let running = match find_container(&self.connection, id).await? {
            Some(_) => self.attach(id).await,
            None => return self.exited(id, bundle).await,
        };
        match (running, how) {
            (Ok(container), Restore::Reattach) => Ok(Restored::Running(container)),
            (Ok(container), Restore::Stop) => {
                let exit = container.stop(TERM_GRACE).await?;
                Ok(Restored::Exited { exit, stdio: container.take_stdio() })
            }
            // It has ended since.
            (Err(error), _) if error.is_gone() => self.exited(id, bundle).await,
            (Err(error), _) => Err(error),
        }
    }

    /// [`Client::restore`] for many containers at once, none of which waits for another.
    pub async fn restore_all<P: AsRef<Path>>(
        &self,
        containers: impl IntoIterator<Item = (String, P)>,
        how: Restore,
    ) -> Vec<(String, Result<Restored>)> {
        let mut tasks = JoinSet::new();
        for (id, bundle) in containers {
            let (client, bundle) = (self.clone(), bundle.as_ref().to_owned());
            tasks.spawn(async move {
                let restored = client.restore(&id, &bundle, how).await;
                (id, restored)
            });
        }
        tasks.join_all().await
    }

    /// A handle on a running container with this side of its pipes open again.
    pub async fn attach(&self, id: &str) -> Result<Container> {
        let init = self.container(id).attach(INIT).await?;
        let bundle = find_container(&self.connection, id).await?.map(|c| c.bundle_path.into());
        Ok(Container::new(init, bundle))
    }

    async fn exited(&self, id: &str, bundle: &Path) -> Result<Restored> {
        let key = Key { container: id.to_owned(), process: INIT.to_owned() };
        let exit = ended(&self.connection, &key).await?.unwrap_or_else(Exit::unknown);
        let owner = self.running_owner(key, watch::channel(Some(exit)).1);
        Ok(Restored::Exited { exit, stdio: ProcessStdio::reopen_output(bundle, &owner)? })
    }

    fn running_owner(&self, key: Key, exit: ExitSlot) -> Owner {
        let started = watch::channel(Some(true)).1;
        Owner { connection: self.connection.clone(), key, started, exit }
    }
}

impl Container {
    /// A handle on one of its running processes with this side of its pipes open again.
    pub async fn attach(&self, process: &str) -> Result<Process> {
        let key = Key { container: self.id().to_owned(), process: process.to_owned() };
        let connection = &self.client().connection;
        let exit = self.client().exits.attach(connection, &key).await?;
        let container = find_container(connection, self.id()).await?;
        let processes = container.into_iter().flat_map(|c| c.processes);
        let Some(found) = { processes }.find(|p| p.pid == process) else {
            let gone = ErrorKind::NotFound("process not found: it has ended".to_owned());
            return Err(Error::new(format!("attach to {}/{process}", self.id()), gone));
        };
        let owner = self.client().running_owner(key.clone(), exit.clone());
        let stdio = Arc::new(Mutex::new(ProcessStdio::reopen(&found, &owner)?));
        let pipe_dir = Path::new(&found.stdout).parent().map(Path::to_owned);
        let (client, pid) = (self.client().clone(), Some(found.system_pid));
        Ok(Process { client, key, pid, exit: Some(exit), stdio, pipe_dir })
    }

    /// Ends it: SIGTERM, and SIGKILL if it takes longer than `grace`. A paused one is resumed
    /// first. The status is 255 if it survives even that.
    pub async fn stop(&self, grace: Duration) -> Result<Exit> {
        let paused =
            self.client().find(self.id()).await?.is_some_and(|c| c.status == status::PAUSED);
        if paused {
            self.resume().await?;
        }
        for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, KILL_GRACE)] {
            match self.signal(signal).await {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
            if let Ok(exit) = time::timeout(patience, self.wait()).await {
                return exit;
            }
        }
        Ok(Exit::unknown())
    }
}
