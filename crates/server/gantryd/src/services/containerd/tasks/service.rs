//! The calls of the service.

use std::sync::Arc;

use gantry_api::containerd::tasks::{self as api, tasks_server};
use gantry_domain::{ConsoleSize, ContainerId, ProcessId, ProcessPhase, ProcessSpec, Refusal};
use gantry_store::filter::{FilterError, Filters};
use gantry_supervisor::resources::DirectLimits;
use gantry_supervisor::{ContainerHandle, Listed, NewLimits, Supervisor, SupervisorError};
use tonic::{Request, Response, Status};

use super::{
    checkpoint, checkpoint_content, create, json, stdio,
    texts::{Call, Subject},
    usage, view,
};
use crate::rpc::{BadField, Charge, caller, idempotency, listing};
use crate::services::{
    containerd::{Surface, request},
    numbers::{cells, signal},
};

/// A container's specification is held by the call that creates the task, and by the thread that writes it.
const COPIES_OF_A_SPEC: usize = 2;

/// The service.
#[derive(Clone)]
pub(crate) struct Tasks(pub(in crate::services::containerd) Surface);

/// The process that a request is about.
struct Target<'a> {
    supervisor: &'a Supervisor,
    /// The name of the container's runtime.
    runtime: String,
    task: ContainerHandle,
    process: ProcessId,
    subject: Subject,
}

impl Tasks {
    /// The task that is named in a request, and its first process, or the one of this exec id. While the runtime is
    /// making the task, waits for that, as in containerd: nerdctl and ctr ask as soon as they can write to its stdin.
    async fn target<T>(
        &self,
        request: &Request<T>,
        id: &str,
        exec: &str,
    ) -> Result<Target<'_>, Status> {
        let namespace = request::namespace(request)?;
        let container = self.0.container(&namespace, id).await?;
        let subject = Subject { task: id.to_owned(), exec: exec.to_owned() };
        let supervisor = self.0.supervisor().await;
        // No task can have such an id.
        let id = ContainerId::parse(id).map_err(|_| subject.no_task())?;
        let task = supervisor.container(namespace.clone(), id);
        let task = task.map_err(|error| subject.status(Call::Look, &error))?;
        task.created().await.map_err(|error| subject.status(Call::Look, &error))?;
        let process = request::process_id(exec)?;
        // The rest of the metadata may be large, and the call may last long.
        let runtime = container.runtime.name;
        Ok(Target { supervisor, runtime, task, process, subject })
    }
}

impl Target<'_> {
    /// The answer to a call that has failed.
    fn failed(&self, call: Call) -> impl Fn(SupervisorError) -> Status {
        move |error| self.subject.status(call, &error)
    }

    /// The task as it is, or was last known.
    async fn listed(&self) -> Result<Listed, Status> {
        let listed = self.supervisor.list(std::slice::from_ref(&self.task)).await;
        listed.into_iter().next().ok_or_else(|| self.subject.no_task())
    }
}

/// The error for an invalid filter, for which containerd has no code here.
fn bad_filter(error: &FilterError) -> Status {
    Status::unknown(error.to_string())
}

/// As in containerd, a call about the streams of a process that is not started yet succeeds.
fn or_unstarted(done: Result<(), SupervisorError>) -> Result<(), SupervisorError> {
    match done {
        Err(SupervisorError::Refused(Refusal::ProcessPhase {
            phase: ProcessPhase::Created | ProcessPhase::Starting,
            ..
        })) => Ok(()),
        other => other,
    }
}

#[tonic::async_trait]
impl tasks_server::Tasks for Tasks {
    async fn create(
        &self,
        request: Request<api::CreateTaskRequest>,
    ) -> Result<Response<api::CreateTaskResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let caller = caller(&request);
        let charge = request.extensions().get().map(Arc::<Charge>::clone);
        let idempotency = idempotency(&request)?;
        let request = request.into_inner();
        let container_id = request.container_id.clone();
        let subject = Subject { task: container_id.clone(), exec: String::new() };
        let id = request::container_id("container_id", &container_id)?;
        let supervisor = self.0.supervisor().await;
        // Whoever deletes the container meanwhile waits, and finds the task.
        let _held = self.0.lock(&namespace, &id).await;
        let container = self.0.container(&namespace, &container_id).await?;
        let checkpoint = request.checkpoint.clone();
        let failed = |error| subject.status(Call::Create, &error);
        let before = supervisor.made_before(&namespace, &id, idempotency.as_ref()).await;
        if let Some(init) =
            before.map_err(failed)?.and_then(|view| view.processes.into_iter().next())
        {
            return Ok(Response::new(api::CreateTaskResponse { container_id, pid: init.pid }));
        }
        let mut new = create::new_task(request, container, id, caller)?;
        new.idempotency = idempotency;
        if let Some(charge) = charge {
            charge.add(COPIES_OF_A_SPEC * new.spec.len())?;
        }
        if let (None, Some(checkpoint)) = (&new.runtime.criu_image, &checkpoint) {
            supervisor.require_free(&namespace, &new.id).map_err(failed)?;
            new.image = Some(checkpoint_content::extract(&self.0, &namespace, checkpoint).await?);
        }
        let created = supervisor.create_task(namespace, new).await;
        let pid = created.map_err(failed)?.pid;
        Ok(Response::new(api::CreateTaskResponse { container_id, pid }))
    }

    async fn start(
        &self,
        request: Request<api::StartRequest>,
    ) -> Result<Response<api::StartResponse>, Status> {
        let api::StartRequest { container_id, exec_id } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        let (task, process) = (&target.task, target.process.clone());
        let started = target.supervisor.start_process(task, process, caller(&request)).await;
        let pid = started.map_err(target.failed(Call::Start))?;
        Ok(Response::new(api::StartResponse { pid }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteTaskRequest>,
    ) -> Result<Response<api::DeleteResponse>, Status> {
        let target = self.target(&request, &request.get_ref().container_id, "").await?;
        let deleted = target.task.delete(ProcessId::init()).await;
        let deleted = deleted.map_err(target.failed(Call::Delete))?;
        Ok(Response::new(view::deleted(String::new(), deleted)))
    }

    async fn delete_process(
        &self,
        request: Request<api::DeleteProcessRequest>,
    ) -> Result<Response<api::DeleteResponse>, Status> {
        let api::DeleteProcessRequest { container_id, exec_id } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        if target.process.is_init() {
            let problem = "must be given: a task is deleted by Delete";
            return Err(BadField::new("exec_id", problem).into());
        }
        let deleted = target.task.delete(target.process.clone()).await;
        let deleted = deleted.map_err(target.failed(Call::Delete))?;
        Ok(Response::new(view::deleted(exec_id.clone(), deleted)))
    }

    async fn get(
        &self,
        request: Request<api::GetRequest>,
    ) -> Result<Response<api::GetResponse>, Status> {
        let api::GetRequest { container_id, exec_id } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        let listed = target.listed().await?;
        let process = view::process(&listed.view, &target.process);
        let process = process.ok_or_else(|| target.subject.no_process())?;
        Ok(Response::new(api::GetResponse { process: Some(process) }))
    }

    async fn list(
        &self,
        request: Request<api::ListTasksRequest>,
    ) -> Result<Response<api::ListTasksResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let supervisor = self.0.supervisor().await;
        let _listing = listing(&request).await;
        let tasks = supervisor.first_processes(&namespace).await;
        let tasks = tasks.iter().filter_map(view::first_process).collect();
        Ok(Response::new(api::ListTasksResponse { tasks }))
    }

    async fn kill(&self, request: Request<api::KillRequest>) -> Result<Response<()>, Status> {
        let api::KillRequest { container_id, exec_id, signal: number, all } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        let number = signal(*number)?;
        let sent = if *all && target.process.is_init() {
            target.task.signal_all(number).await
        } else {
            target.task.signal(target.process.clone(), number).await
        };
        sent.map_err(target.failed(Call::Kill))?;
        Ok(Response::new(()))
    }

    async fn exec(
        &self,
        request: Request<api::ExecProcessRequest>,
    ) -> Result<Response<()>, Status> {
        let mut target = self.target(&request, &request.get_ref().container_id, "").await?;
        let request = request.into_inner();
        let process = request::new_exec_id("exec_id", &request.exec_id)?;
        target.subject.exec = request.exec_id;
        let spec = ProcessSpec {
            terminal: request.terminal,
            stdio: stdio::parse(&request.stdin, &request.stdout, &request.stderr)?,
            oci: Some(json::process(request.spec.as_ref(), request.terminal)?),
            ..ProcessSpec::unknown(process)
        };
        target.task.add_exec(spec).await.map_err(target.failed(Call::Exec))?;
        Ok(Response::new(()))
    }

    async fn resize_pty(
        &self,
        request: Request<api::ResizePtyRequest>,
    ) -> Result<Response<()>, Status> {
        let api::ResizePtyRequest { container_id, exec_id, width, height } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        let size =
            ConsoleSize { width: cells("width", *width)?, height: cells("height", *height)? };
        let resized = target.task.resize(target.process.clone(), size).await;
        or_unstarted(resized).map_err(target.failed(Call::Resize))?;
        Ok(Response::new(()))
    }

    async fn close_io(
        &self,
        request: Request<api::CloseIoRequest>,
    ) -> Result<Response<()>, Status> {
        let api::CloseIoRequest { container_id, exec_id, stdin } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        if *stdin {
            let closed = target.task.close_stdin(target.process.clone()).await;
            or_unstarted(closed).map_err(target.failed(Call::Look))?;
        } else {
            let listed = target.listed().await?;
            let process = view::process(&listed.view, &target.process);
            process.ok_or_else(|| target.subject.no_process())?;
        }
        Ok(Response::new(()))
    }

    async fn pause(&self, request: Request<api::PauseTaskRequest>) -> Result<Response<()>, Status> {
        let target = self.target(&request, &request.get_ref().container_id, "").await?;
        target.task.pause().await.map_err(target.failed(Call::Pause))?;
        Ok(Response::new(()))
    }

    async fn resume(
        &self,
        request: Request<api::ResumeTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let target = self.target(&request, &request.get_ref().container_id, "").await?;
        target.task.resume().await.map_err(target.failed(Call::Resume))?;
        Ok(Response::new(()))
    }

    async fn list_pids(
        &self,
        request: Request<api::ListPidsRequest>,
    ) -> Result<Response<api::ListPidsResponse>, Status> {
        let target = self.target(&request, &request.get_ref().container_id, "").await?;
        let processes = view::processes(&target.listed().await?);
        Ok(Response::new(api::ListPidsResponse { processes }))
    }

    async fn checkpoint(
        &self,
        request: Request<api::CheckpointTaskRequest>,
    ) -> Result<Response<api::CheckpointTaskResponse>, Status> {
        let container_id = &request.get_ref().container_id;
        let target = self.target(&request, container_id, "").await?;
        let wanted = checkpoint::wanted(request.get_ref().options.as_ref(), &target.runtime)?;
        let checkpoint::Wanted { path, work, options } = wanted;
        let Some(path) = path else {
            let namespace = request::namespace(&request)?;
            let new = checkpoint_content::New {
                spec: self.0.container(&namespace, container_id).await?.spec,
                namespace,
                lease: request::lease(&request)?,
                task: target.task,
                subject: target.subject,
                work,
                options,
            };
            let descriptors = checkpoint_content::make(&self.0, new).await?;
            return Ok(Response::new(api::CheckpointTaskResponse { descriptors }));
        };
        let made = target.task.image(path, work, options).await;
        made.map_err(target.failed(Call::Checkpoint))?;
        Ok(Response::new(api::CheckpointTaskResponse { descriptors: Vec::new() }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let target = self.target(&request, &request.get_ref().container_id, "").await?;
        let runtime = Some(json::resources(request.get_ref().resources.as_ref())?);
        let limits = NewLimits { runtime, direct: DirectLimits::default() };
        target.task.update(limits).await.map_err(target.failed(Call::Update))?;
        Ok(Response::new(()))
    }

    async fn metrics(
        &self,
        request: Request<api::MetricsRequest>,
    ) -> Result<Response<api::MetricsResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let filters =
            Filters::parse(&request.get_ref().filters).map_err(|error| bad_filter(&error))?;
        let supervisor = self.0.supervisor().await;
        let _listing = listing(&request).await;
        let metrics = usage::read(supervisor, &namespace, &filters).await;
        Ok(Response::new(api::MetricsResponse { metrics }))
    }

    async fn wait(
        &self,
        request: Request<api::WaitRequest>,
    ) -> Result<Response<api::WaitResponse>, Status> {
        let api::WaitRequest { container_id, exec_id } = request.get_ref();
        let target = self.target(&request, container_id, exec_id).await?;
        let waited = target.task.wait(target.process.clone()).await;
        Ok(Response::new(view::waited(waited.map_err(target.failed(Call::Look))?)))
    }
}
