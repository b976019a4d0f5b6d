//! The subject: a server of the `types.API`, as its callers see it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use gantry_api::{
    INIT, event_type,
    types::{
        AddProcessRequest, CreateContainerRequest, EventsRequest, GetServerVersionRequest,
        StateRequest, StatsRequest, UpdateContainerRequest, api_client::ApiClient,
    },
};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

use crate::{
    bed::{Bed, Bundle},
    server::Socket,
};

/// The generated client.
pub(crate) type Api = ApiClient<Channel>;

type Waiting = Arc<Mutex<HashMap<(String, String), oneshot::Sender<Instant>>>>;

/// One connection, one event stream, and a runtime for all containers.
#[derive(Debug, Clone)]
pub(crate) struct Gantry {
    api: Api,
    waiting: Waiting,
    runtime: &'static str,
    runtime_args: Vec<String>,
}

/// Resolves to the moment when the exit event arrived.
pub(crate) struct Exit(oneshot::Receiver<Instant>);

/// A named pipe for a process's standard output.
pub(crate) type Stdout<'a> = Option<&'a Path>;

impl Gantry {
    pub(crate) async fn connect(bed: &Bed, socket: &Socket, runtime: &'static str) -> Result<Self> {
        let api = Api::new(connect(socket).await?);
        let waiting = Waiting::default();
        let mut events = api.clone().events(EventsRequest::default()).await?.into_inner();
        tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                while let Ok(Some(event)) = events.message().await {
                    let now = Instant::now();
                    if event.r#type == event_type::EXIT
                        && let Some(waiter) = lock(&waiting).remove(&(event.id, event.pid))
                    {
                        let _ = waiter.send(now);
                    }
                }
                // Ends the waits: no more events will come.
                lock(&waiting).clear();
            }
        });
        let root = bed.work().join(format!("gantry-{runtime}"));
        let runtime_args = vec!["--root".to_owned(), root.to_string_lossy().into_owned()];
        Ok(Self { api, waiting, runtime, runtime_args })
    }

    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// To be called before what ends.
    pub(crate) fn exit(&self, id: &str, process: &str) -> Exit {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert((id.to_owned(), process.to_owned()), sender);
        Exit(receiver)
    }

    /// Makes a container; its pid, and its exit to wait for.
    pub(crate) async fn create(&self, bundle: &Bundle, stdout: Stdout<'_>) -> Result<(u32, Exit)> {
        let exit = self.exit(&bundle.id, INIT);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let request = CreateContainerRequest {
            id: bundle.id.clone(),
            bundle_path: path(&bundle.path),
            stdout: stdout.map(path).unwrap_or_default(),
            runtime: self.runtime.to_owned(),
            runtime_args: self.runtime_args.clone(),
            ..CreateContainerRequest::default()
        };
        let response = self.api().create_container(request).await.context("CreateContainer")?;
        let container = response.into_inner().container.context("no container in the answer")?;
        let process = container.processes.first().context("no process in the answer")?;
        Ok((process.system_pid, exit))
    }

    /// Starts a further process like the first one; its pid, and its exit to wait for.
    pub(crate) async fn exec(&self, bundle: &Bundle, process: &str) -> Result<(u32, Exit)> {
        let exit = self.exit(&bundle.id, process);
        let words = |key: &str| -> Vec<String> {
            serde_json::from_value(bundle.config["process"][key].clone()).unwrap_or_default()
        };
        let request = AddProcessRequest {
            id: bundle.id.clone(),
            pid: process.to_owned(),
            args: words("args"),
            env: words("env"),
            cwd: "/".to_owned(),
            capabilities: vec!["CAP_KILL".to_owned()],
            ..AddProcessRequest::default()
        };
        let response = self.api().add_process(request).await.context("AddProcess")?;
        Ok((response.into_inner().system_pid, exit))
    }

    pub(crate) async fn set_status(&self, id: &str, status: &str) -> Result<()> {
        let (id, status) = (id.to_owned(), status.to_owned());
        let request = UpdateContainerRequest { id, status, ..UpdateContainerRequest::default() };
        self.api().update_container(request).await.context("UpdateContainer")?;
        Ok(())
    }

    /// The least that a call can be.
    pub(crate) async fn version(&self) -> Result<()> {
        let request = GetServerVersionRequest {};
        self.api().get_server_version(request).await.context("GetServerVersion")?;
        Ok(())
    }

    /// How many containers there are.
    pub(crate) async fn state(&self) -> Result<usize> {
        let response = self.api().state(StateRequest::default()).await.context("State")?;
        Ok(response.into_inner().containers.len())
    }

    pub(crate) async fn stats(&self, id: &str) -> Result<()> {
        self.api().stats(StatsRequest { id: id.to_owned() }).await.context("Stats")?;
        Ok(())
    }
}

impl Exit {
    pub(crate) async fn arrived(self) -> Result<Instant> {
        self.0.await.context("the event stream has ended")
    }
}

/// A connection of its own.
pub(crate) async fn connect(socket: &Socket) -> Result<Channel> {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?;
    endpoint.connect().await.with_context(|| format!("connect to {}", socket.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
