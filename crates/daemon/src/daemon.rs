//! The daemon as a library: containers and networks, and what can be done with them.

use std::{
    collections::HashMap,
    mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_client::{Client, Signal};

use crate::{
    Error, Network, Options, Result,
    container::Container,
    host::Host,
    model::{Config, Networking, Record, Status},
    names, networks,
    start::mount::{self, RootMount},
    subnet::Subnet,
};

/// How long gantryd may take to come up beside this daemon.
const STARTUP: Duration = Duration::from_secs(15);

/// How long gantryd may be away, for a restart, before a call fails.
const PATIENCE: Duration = Duration::from_secs(2);

/// One daemon. Cheap to clone; all clones are the same daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    pub(crate) host: Arc<Host>,
    pub(crate) client: Client,
    /// Mounts of root filesystems that callers have asked for, by the container's id.
    looked_into: Arc<Mutex<HashMap<String, Vec<RootMount>>>>,
}

impl Daemon {
    /// Reads what is stored, connects to gantryd, and reattaches to the containers that still run.
    pub async fn open(options: Options) -> Result<Daemon> {
        Client::connect(&options.server, STARTUP).await?;
        let client = Client::connect(&options.server, PATIENCE).await?;
        let host = blocking(move || Host::open(options)).await??;
        let daemon = Daemon { host: Arc::new(host), client, looked_into: Arc::default() };
        daemon.restore().await?;
        Ok(daemon)
    }

    /// Stores a container and returns its id. Without a name it is called by the id's beginning.
    pub async fn create(&self, name: String, config: Config) -> Result<String> {
        if !name.is_empty() {
            names::check("name", &name)?;
        }
        if let Networking::Bridge(bridge) = &config.networking {
            bridge.networks.iter().try_for_each(|name| self.host.networks.find(name).map(drop))?;
        }
        let host = Arc::clone(&self.host);
        let container = blocking(move || host.store.create(name, config)).await??;
        Ok(container.id().to_owned())
    }

    /// Waits until no container is being started, cleaned up or removed, and prevents that from then on: for the
    /// end of the daemon.
    pub async fn quiesce(&self) {
        for container in self.host.store.all() {
            mem::forget(container.operation.lock().await);
        }
    }

    /// What is known of a container.
    pub fn inspect(&self, reference: &str) -> Result<Record> {
        Ok(self.host.store.find(reference)?.record())
    }

    /// All containers, oldest first.
    pub fn list(&self) -> Vec<Record> {
        self.host.store.all().iter().map(|container| container.record()).collect()
    }

    /// Path of the file that a container's output goes to.
    pub fn output_path(&self, id: &str) -> PathBuf {
        self.host.options.root.join("containers").join(id).join(crate::container::OUTPUT)
    }

    /// Gives a container another name; its neighbours know it by that from its next start on.
    pub async fn rename(&self, reference: &str, name: String) -> Result<()> {
        names::check("name", &name)?;
        let container = self.host.store.find(reference)?;
        let _operation = container.operation.lock().await;
        let (host, of) = (Arc::clone(&self.host), Arc::clone(&container));
        blocking(move || host.store.rename(&of, &name)).await?
    }

    /// Sends a container's first process a signal.
    pub async fn kill(&self, reference: &str, signal: Signal) -> Result<()> {
        let container = self.host.store.find(reference)?;
        let record = container.record();
        if record.state.status != Status::Running {
            return Err(record.wrong_state());
        }
        match self.client.container(container.id()).signal(signal).await {
            // The daemon knows the container, and will soon learn of its end.
            Err(error) if error.is_gone() => {
                Err(Error::WrongState { id: record.id, state: "no longer running" })
            }
            result => Ok(result?),
        }
    }

    /// Waits until a container neither runs nor is about to be started again.
    pub async fn wait(&self, reference: &str) -> Result<Record> {
        let container = self.host.store.find(reference)?;
        let mut changes = container.subscribe();
        let is_over =
            |record: &Record| !matches!(record.state.status, Status::Running | Status::Restarting);
        // Fails if the sender is gone, which `container` is holding.
        let _ = changes.wait_for(is_over).await;
        Ok(container.record())
    }

    /// Mounts a container's root filesystem for its caller, until it is unmounted again.
    pub async fn mount(&self, reference: &str) -> Result<PathBuf> {
        let container = self.host.store.find(reference)?;
        let _operation = container.operation.lock().await;
        let record = container.record();
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(record.wrong_state());
        }
        let (host, of) = (Arc::clone(&self.host), Arc::clone(&container));
        let root = blocking(move || mount::mount(&host, &of)).await??;
        let path = root.path().to_owned();
        self.looked_into().entry(record.id).or_default().push(root);
        Ok(path)
    }

    /// Undoes one `mount`.
    pub async fn unmount(&self, reference: &str) -> Result<()> {
        let container = self.host.store.find(reference)?;
        let root = self.looked_into().get_mut(container.id()).and_then(Vec::pop);
        let Some(root) = root else {
            return Err(Error::invalid("reference", "is of a container that was not mounted"));
        };
        blocking(move || drop(root)).await
    }

    /// Undoes all `mount`s of a container.
    pub(crate) async fn unmount_all(&self, container: &Container) -> Result<()> {
        let roots = self.looked_into().remove(container.id());
        blocking(move || drop(roots)).await
    }

    fn looked_into(&self) -> MutexGuard<'_, HashMap<String, Vec<RootMount>>> {
        // Every change is one call, so a panic elsewhere cannot have spoilt the map.
        self.looked_into.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Defines a network.
    pub async fn create_network(&self, name: String, subnet: Option<Subnet>) -> Result<Network> {
        names::check("name", &name)?;
        let host = Arc::clone(&self.host);
        blocking(move || host.networks.create(&name, subnet)).await?
    }

    /// All networks, by name.
    pub fn networks(&self) -> Vec<Network> {
        self.host.networks.all()
    }

    /// Removes a network that no container is configured to use.
    pub async fn remove_network(&self, name: String) -> Result<()> {
        if name == networks::DEFAULT {
            return Err(Error::invalid("name", "is that of the default network"));
        }
        let uses = |record: &Record| match &record.config.networking {
            Networking::Bridge(bridge) => bridge.networks.contains(&name),
            _ => false,
        };
        if let Some(record) = self.list().into_iter().find(uses) {
            return Err(Error::NetworkInUse { network: name, container: record.name });
        }
        let host = Arc::clone(&self.host);
        blocking(move || host.networks.remove(&name)).await?
    }
}

/// Runs what waits for disks or programs on a thread that may.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is lost with this daemon: a restart restores"
)]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Notes what has happened to a container, see [`Container::observe`].
pub(crate) async fn note(
    container: &Arc<Container>,
    change: impl FnOnce(&mut Record) + Send + 'static,
) {
    let container = Arc::clone(container);
    if let Err(error) = blocking(move || container.observe(change)).await {
        tracing::error!(%error, "a container's state cannot be recorded");
    }
}
