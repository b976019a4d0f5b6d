//! A client of containerd's services, of containerd itself and of Gantry alike.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gantry_api::containerd::{
    NAMESPACE_METADATA,
    containers::{
        Container, CreateContainerRequest, DeleteContainerRequest, container::Runtime,
        containers_client::ContainersClient,
    },
    runc::Options,
    tasks::{
        CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest,
        KillRequest, ListTasksRequest, MetricsRequest, StartRequest, WaitRequest,
        tasks_client::TasksClient,
    },
    to_any, type_url,
};
use prost_types::Any;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

use crate::{bed::Bundle, gantry::connect};

/// Of the measured containers.
const NAMESPACE: &str = "default";

const SIGKILL: u32 = 9;

/// More than an answer about hundreds of tasks has.
const MAX_MESSAGE: usize = 64 << 20;

/// One connection, and a runtime for all tasks.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    containers: ContainersClient<Channel>,
    tasks: TasksClient<Channel>,
    /// Where the runtime keeps its state.
    root: PathBuf,
    runtime: &'static str,
}

impl Tasks {
    /// Runtimes keep their state below `root`.
    pub(crate) async fn connect(
        socket: &Path,
        root: PathBuf,
        runtime: &'static str,
    ) -> Result<Self> {
        let channel = connect(socket).await?;
        let containers = ContainersClient::new(channel.clone());
        let tasks = TasksClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Ok(Self { containers, tasks, root, runtime })
    }

    /// Makes a container, its task, and starts it.
    pub(crate) async fn run(&self, bundle: &Bundle) -> Result<()> {
        self.prepare(bundle).await?;
        self.start(bundle).await
    }

    /// Makes a container.
    pub(crate) async fn prepare(&self, bundle: &Bundle) -> Result<()> {
        let options = Options {
            binary_name: self.runtime.to_owned(),
            root: self.root.join(self.runtime).to_string_lossy().into_owned(),
            ..Options::default()
        };
        let name = "io.containerd.runc.v2".to_owned();
        let container = Container {
            id: bundle.id.clone(),
            runtime: Some(Runtime { name, options: Some(to_any(&options)) }),
            spec: Some(json(type_url::SPEC, &bundle.config)),
            ..Container::default()
        };
        let create = CreateContainerRequest { container: Some(container) };
        self.containers.clone().create(of(create)).await.context("create a container")?;
        Ok(())
    }

    /// Makes a container's task, and starts it.
    pub(crate) async fn start(&self, bundle: &Bundle) -> Result<()> {
        let mut tasks = self.tasks.clone();
        let container_id = bundle.id.clone();
        let create = CreateTaskRequest { container_id: container_id.clone(), ..Default::default() };
        tasks.create(of(create)).await.context("create a task")?;
        let start = StartRequest { container_id, ..StartRequest::default() };
        tasks.start(of(start)).await.context("start a task")?;
        Ok(())
    }

    /// Adds a process like the first one, and starts it.
    pub(crate) async fn exec(&self, bundle: &Bundle, process: &str) -> Result<()> {
        let (container_id, exec_id) = (bundle.id.clone(), process.to_owned());
        let exec = ExecProcessRequest {
            container_id: container_id.clone(),
            exec_id: exec_id.clone(),
            spec: Some(json(type_url::PROCESS, &bundle.config["process"])),
            ..ExecProcessRequest::default()
        };
        let mut tasks = self.tasks.clone();
        tasks.exec(of(exec)).await.context("add a process")?;
        let start = StartRequest { container_id, exec_id };
        tasks.start(of(start)).await.context("start a process")?;
        Ok(())
    }

    /// Kills an added process, and has it forgotten.
    pub(crate) async fn end_exec(&self, bundle: &Bundle, process: &str) -> Result<()> {
        let (container_id, exec_id) = (bundle.id.clone(), process.to_owned());
        self.kill(bundle, process).await?;
        let wait = WaitRequest { container_id: container_id.clone(), exec_id: exec_id.clone() };
        let mut tasks = self.tasks.clone();
        tasks.wait(of(wait)).await.context("wait for a process")?;
        let delete = DeleteProcessRequest { container_id, exec_id };
        tasks.delete_process(of(delete)).await.context("delete a process")?;
        Ok(())
    }

    /// Kills the first process, or an added one.
    pub(crate) async fn kill(&self, bundle: &Bundle, process: &str) -> Result<()> {
        let (container_id, exec_id) = (bundle.id.clone(), process.to_owned());
        let kill = KillRequest { container_id, exec_id, signal: SIGKILL, all: false };
        self.tasks.clone().kill(of(kill)).await.context("kill a process")?;
        Ok(())
    }

    /// Waits for the end of the first process, and has it all forgotten.
    pub(crate) async fn wait_and_delete(&self, bundle: &Bundle) -> Result<()> {
        let mut tasks = self.tasks.clone();
        let container_id = bundle.id.clone();
        let wait = WaitRequest { container_id: container_id.clone(), ..WaitRequest::default() };
        tasks.wait(of(wait)).await.context("wait for a task")?;
        tasks.delete(of(DeleteTaskRequest { container_id })).await.context("delete a task")?;
        let delete = DeleteContainerRequest { id: bundle.id.clone() };
        self.containers.clone().delete(of(delete)).await.context("delete a container")?;
        Ok(())
    }

    /// The usage of how many tasks it could read.
    pub(crate) async fn metrics(&self) -> Result<usize> {
        let read = self.tasks.clone().metrics(of(MetricsRequest::default())).await;
        Ok(read.context("read metrics")?.into_inner().metrics.len())
    }

    /// How many tasks there are.
    pub(crate) async fn count(&self) -> Result<usize> {
        let listed = self.tasks.clone().list(of(ListTasksRequest::default())).await;
        Ok(listed.context("list tasks")?.into_inner().tasks.len())
    }
}

fn of<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let namespace = MetadataValue::from_static(NAMESPACE);
    request.metadata_mut().insert(NAMESPACE_METADATA, namespace);
    request
}

fn json(kind: &str, value: &serde_json::Value) -> Any {
    Any { type_url: kind.to_owned(), value: value.to_string().into_bytes() }
}
