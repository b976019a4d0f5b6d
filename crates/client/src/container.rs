//! A handle on one container.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_api::{INIT, types};
use oci_spec::runtime::Process as ProcessSpec;
use tokio::time;

use crate::{
    bundle,
    call::Operation,
    client::Client,
    connection::{Api, Connection},
    error::{Error, ErrorKind, Result},
    event::{self, EventFilter, EventKind},
    exec::ExecBuilder,
    exits::{Exit, Key},
    process::{ConsoleSize, Process},
    signal::Signal,
    stdio::ProcessStdio,
    wire,
};

/// How long the event of a change may take after the server has answered.
const EVENT_DEADLINE: time::Duration = time::Duration::from_secs(10);

/// A container. Dropping the handle leaves the container alone.
///
/// Clones are handles on the same container: each of them can wait, and every wait returns the exit.
/// They share the ends of the pipes, which the first one to take them gets.
#[derive(Debug, Clone)]
pub struct Container {
    init: Process,
    bundle: Option<PathBuf>,
}

impl Container {
    pub(crate) fn new(init: Process, bundle: Option<PathBuf>) -> Container {
        Container { init, bundle }
    }

    pub(crate) fn detached(client: &Client, id: &str) -> Container {
        Container { init: detached_process(client, id, INIT), bundle: None }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.init.client
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.client().connection
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.init.key.container
    }

    /// Its first process.
    pub fn init(&self) -> &Process {
        &self.init
    }

    /// Hands out the ends of its first process's pipes; the second time there are none.
    pub fn take_stdio(&self) -> ProcessStdio {
        self.init.take_stdio()
    }

    /// A handle on one of its processes that may exist; the server is not asked.
    pub fn process(&self, process: &str) -> Process {
        detached_process(self.client(), self.id(), process)
    }

    /// What the server knows of it.
    pub async fn state(&self) -> Result<types::Container> {
        self.client().find(self.id()).await?.ok_or_else(|| {
            let kind = ErrorKind::NotFound("container not found".to_owned());
            Error::new(format!("look up container {}", self.id()), kind)
        })
    }

    /// Describes a further process, named `process`.
    pub fn exec(&self, process: &str, spec: &ProcessSpec) -> ExecBuilder {
        self.exec_request(process, wire::add_process(spec))
    }

    /// Describes a further process with the user, environment, directory, capabilities and other
    /// properties of the container's first one.
    pub async fn exec_like_init(&self, process: &str, args: Vec<String>) -> Result<ExecBuilder> {
        let init = self.state().await?.processes.into_iter().find(|p| p.pid == INIT);
        let request = wire::add_process_like(init.unwrap_or_default());
        Ok(self.exec_request(process, types::AddProcessRequest { args, ..request }))
    }

    fn exec_request(&self, process: &str, request: types::AddProcessRequest) -> ExecBuilder {
        let (id, pid) = (self.id().to_owned(), process.to_owned());
        let exec = ExecBuilder::new(self.client(), types::AddProcessRequest { id, pid, ..request });
        match &self.bundle {
            Some(bundle) => exec.pipe_dir(bundle),
            None => exec,
        }
    }

    /// Sends its first process a signal.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        self.init.signal(signal).await
    }

    /// Sets the size of its first process's terminal.
    pub async fn resize(&self, size: ConsoleSize) -> Result<()> {
        self.init.resize(size).await
    }

    /// Waits for its end; answers at once, and again, if it has ended already.
    pub async fn wait(&self) -> Result<Exit> {
        self.init.wait().await
    }

    /// Freezes its processes; returns once the event was received.
    pub async fn pause(&self) -> Result<()> {
        self.change_status(gantry_api::status::PAUSED, &EventKind::Paused).await
    }

    /// Thaws its processes; returns once the event was received.
    pub async fn resume(&self) -> Result<()> {
        self.change_status(gantry_api::status::RUNNING, &EventKind::Resumed).await
    }

    async fn change_status(&self, status: &str, awaited: &EventKind) -> Result<()> {
        let since = event::now();
        let request = types::UpdateContainerRequest {
            id: self.id().to_owned(),
            status: status.to_owned(),
            ..Default::default()
        };
        let operation = format!("set container {} {status}", self.id());
        self.update_container(Operation::once(&*operation), request).await?;
        let sent = time::timeout(EVENT_DEADLINE, self.event_since(since, awaited)).await;
        sent.unwrap_or_else(|_| {
            let message = "done, but its event did not come".to_owned();
            Err(Error::new(operation, ErrorKind::DeadlineExceeded(message)))
        })
    }

    async fn event_since(&self, since: gantry_api::Timestamp, awaited: &EventKind) -> Result<()> {
        let container = Some(self.id().to_owned());
        let filter = EventFilter { since: Some(since), container, stored_only: false };
        let mut events = self.client().events(filter);
        loop {
            match events.next().await {
                Ok(Some(event)) if event.kind == *awaited => return Ok(()),
                Err(error) if !error.is_ambiguous() => return Err(error),
                _ => {}
            }
        }
    }

    /// Changes resource limits; zero and empty fields leave a limit as it is.
    pub async fn update(&self, resources: types::UpdateResource) -> Result<()> {
        let request = types::UpdateContainerRequest {
            id: self.id().to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        let operation = format!("update container {}", self.id());
        self.update_container(Operation::repeatable(operation), request).await
    }

    async fn update_container(
        &self,
        operation: Operation<'_>,
        request: types::UpdateContainerRequest,
    ) -> Result<()> {
        let update = |mut api: Api, request| async move { api.update_container(request).await };
        self.connection().call(operation, request, update).await.map(drop)
    }

    /// Removes config.json, the pipes of its first process and, if nothing else is in it, the
    /// bundle directory. For a container that has ended.
    pub fn remove_bundle(&self) -> Result<()> {
        self.bundle.as_deref().map_or(Ok(()), remove_bundle)
    }
}

/// Removes what a container's creation has put into its bundle, and the directory if nothing else
/// is in it. For a container that has ended.
pub fn remove_bundle(dir: &Path) -> Result<()> {
    bundle::remove(dir)
}

pub(crate) fn detached_process(client: &Client, container: &str, process: &str) -> Process {
    Process {
        client: client.clone(),
        key: Key { container: container.to_owned(), process: process.to_owned() },
        pid: None,
        exit: None,
        stdio: Arc::default(),
        pipe_dir: None,
    }
}
