//! `types.API`.

use std::{path::PathBuf, sync::Arc};

use gantry_api::types::{self, api_server};
use gantry_domain::ConsoleSize;
use gantry_supervisor::{
    Caller, CheckpointConfig, ContainerHandle, NamedCheckpoint, NewContainer, Supervisor,
};
use tonic::{Request, Response, Status};

use super::{
    NAMESPACE, convert,
    events::{self, EventStream},
    parse, resources, state, stats,
    status::status,
};
use crate::connection::Connections;
use crate::rpc::{BadField, Charge, caller, follower, idempotency, listing, receives};
use crate::services::{PendingSupervisor, numbers::cells};

/// What is read of config.json is held by the call that makes the container and by the container's task.
const COPIES_OF_A_BUNDLE: usize = 2;

/// The service.
pub(crate) struct Api {
    supervisor: PendingSupervisor,
    connections: Connections,
}

impl Api {
    pub(crate) fn new(supervisor: PendingSupervisor, connections: Connections) -> Self {
        Self { supervisor, connections }
    }

    async fn supervisor(&self) -> &Supervisor {
        self.supervisor.wait().await
    }

    async fn container(&self, id: &str) -> Result<ContainerHandle, Status> {
        let id = parse::container_id(id)?;
        self.supervisor().await.container(NAMESPACE, id).map_err(status)
    }
}

fn checkpoint_dir(dir: &str) -> Result<Option<PathBuf>, BadField> {
    parse::optional_path("checkpointDir", dir)
}

/// A request for a container that is to be.
fn new_container(
    request: types::CreateContainerRequest,
    caller: Caller,
) -> Result<NewContainer, BadField> {
    let id = parse::container_id(&request.id)?;
    let bundle = parse::absolute_path("bundlePath", &request.bundle_path)?;
    let stdio = parse::stdio(&request.stdin, &request.stdout, &request.stderr)?;
    let checkpoint = if request.checkpoint.is_empty() {
        None
    } else {
        let name = parse::name("checkpoint", &request.checkpoint)?;
        Some(NamedCheckpoint { dir: checkpoint_dir(&request.checkpoint_dir)?, name })
    };
    if request.runtime.contains('/') {
        parse::absolute_path("runtime", &request.runtime)?;
    }
    Ok(NewContainer {
        caller,
        id,
        bundle,
        stdio,
        runtime: request.runtime,
        runtime_args: parse::strings("runtimeArgs", request.runtime_args)?,
        labels: parse::strings("labels", request.labels)?.into(),
        idempotency: None,
        no_pivot_root: request.no_pivot_root,
        checkpoint,
    })
}

fn console_size(width: u32, height: u32) -> Result<Option<ConsoleSize>, BadField> {
    let size = ConsoleSize { width: cells("width", width)?, height: cells("height", height)? };
    Ok((size.width > 0 || size.height > 0).then_some(size))
}

#[tonic::async_trait]
impl api_server::Api for Api {
    async fn get_server_version(
        &self,
        _request: Request<types::GetServerVersionRequest>,
    ) -> Result<Response<types::GetServerVersionResponse>, Status> {
        Ok(Response::new(convert::server_version()))
    }

    async fn create_container(
        &self,
        request: Request<types::CreateContainerRequest>,
    ) -> Result<Response<types::CreateContainerResponse>, Status> {
        let caller = caller(&request);
        let charge = request.extensions().get().map(Arc::<Charge>::clone);
        let idempotency = idempotency(&request)?;
        let supervisor = self.supervisor().await;
        let new = NewContainer { idempotency, ..new_container(request.into_inner(), caller)? };
        let before = supervisor.made_before(&NAMESPACE, &new.id, new.idempotency.as_ref()).await;
        if let Some(view) = before.map_err(status)? {
            let container = Some(state::container(supervisor.list_one(view).await));
            return Ok(Response::new(types::CreateContainerResponse { container }));
        }
        let prepared = supervisor.prepare(new).await.map_err(status)?;
        if let Some(charge) = charge {
            charge.add(COPIES_OF_A_BUNDLE * prepared.memory())?;
        }
        let view = supervisor.create(NAMESPACE, prepared).await.map_err(status)?;
        let container = Some(state::container(supervisor.list_one(view).await));
        Ok(Response::new(types::CreateContainerResponse { container }))
    }

    async fn update_container(
        &self,
        request: Request<types::UpdateContainerRequest>,
    ) -> Result<Response<types::UpdateContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id).await?;
        let limits = request.resources.as_ref().map(resources::parse).transpose()?.flatten();
        match request.status.as_str() {
            "" => {}
            gantry_api::status::PAUSED => container.pause().await.map_err(status)?,
            gantry_api::status::RUNNING => container.resume().await.map_err(status)?,
            other => {
                let problem = format!("must be \"running\", \"paused\" or empty, is {other:?}");
                return Err(BadField::new("status", problem).into());
            }
        }
        if let Some(limits) = limits {
            container.update(limits).await.map_err(status)?;
        }
        Ok(Response::new(types::UpdateContainerResponse {}))
    }

    async fn signal(
        &self,
        request: Request<types::SignalRequest>,
    ) -> Result<Response<types::SignalResponse>, Status> {
        let request = request.into_inner();
        let process = parse::process_id(&request.pid)?;
        let signal = parse::signal(request.signal)?;
        self.container(&request.id).await?.signal(process, signal).await.map_err(status)?;
        Ok(Response::new(types::SignalResponse {}))
    }

    async fn update_process(
        &self,
        request: Request<types::UpdateProcessRequest>,
    ) -> Result<Response<types::UpdateProcessResponse>, Status> {
        let request = request.into_inner();
        let process = parse::process_id(&request.pid)?;
        let size = console_size(request.width, request.height)?;
        let container = self.container(&request.id).await?;
        if let Some(size) = size {
            container.resize(process.clone(), size).await.map_err(status)?;
        }
        if request.close_stdin {
            container.close_stdin(process).await.map_err(status)?;
        }
        Ok(Response::new(types::UpdateProcessResponse {}))
    }

    async fn add_process(
        &self,
        request: Request<types::AddProcessRequest>,
    ) -> Result<Response<types::AddProcessResponse>, Status> {
        let caller = caller(&request);
        let size = convert::console_size_metadata(request.metadata())?;
        let request = request.into_inner();
        let container = parse::container_id(&request.id)?;
        let mut spec = convert::process_spec(request)?;
        spec.console_size = size;
        let supervisor = self.supervisor().await;
        let started = supervisor.exec(NAMESPACE, container, spec, caller).await;
        let system_pid = started.map_err(status)?;
        Ok(Response::new(types::AddProcessResponse { system_pid }))
    }

    async fn create_checkpoint(
        &self,
        request: Request<types::CreateCheckpointRequest>,
    ) -> Result<Response<types::CreateCheckpointResponse>, Status> {
        let request = request.into_inner();
        let wanted =
            request.checkpoint.ok_or_else(|| BadField::new("checkpoint", "must be given"))?;
        let config = CheckpointConfig {
            name: parse::name("checkpoint.name", &wanted.name)?,
            exit: wanted.exit,
            tcp: wanted.tcp,
            unix_sockets: wanted.unix_sockets,
            shell: wanted.shell,
            empty_ns: parse::strings("checkpoint.emptyNS", wanted.empty_ns)?,
            pipes: Vec::new(),
        };
        let dir = checkpoint_dir(&request.checkpoint_dir)?;
        let container = self.container(&request.id).await?;
        let made = self.supervisor().await.checkpoint(&container, dir, config).await;
        made.map_err(status)?;
        Ok(Response::new(types::CreateCheckpointResponse {}))
    }

    async fn delete_checkpoint(
        &self,
        request: Request<types::DeleteCheckpointRequest>,
    ) -> Result<Response<types::DeleteCheckpointResponse>, Status> {
        let request = request.into_inner();
        let name = parse::name("name", &request.name)?;
        let named = NamedCheckpoint { dir: checkpoint_dir(&request.checkpoint_dir)?, name };
        let container = self.container(&request.id).await?;
        let deleted = self.supervisor().await.delete_checkpoint(&container, named).await;
        deleted.map_err(status)?;
        Ok(Response::new(types::DeleteCheckpointResponse {}))
    }

    async fn list_checkpoint(
        &self,
        request: Request<types::ListCheckpointRequest>,
    ) -> Result<Response<types::ListCheckpointResponse>, Status> {
        let request = request.into_inner();
        let dir = checkpoint_dir(&request.checkpoint_dir)?;
        let container = self.container(&request.id).await?;
        let found = self.supervisor().await.checkpoints(&container, dir).await;
        let checkpoints = found.map_err(status)?.into_iter().map(convert::checkpoint).collect();
        Ok(Response::new(types::ListCheckpointResponse { checkpoints }))
    }

    async fn state(
        &self,
        request: Request<types::StateRequest>,
    ) -> Result<Response<types::StateResponse>, Status> {
        let supervisor = self.supervisor().await;
        let all = request.get_ref().id.is_empty();
        let _listing = if all { listing(&request).await } else { None };
        let request = request.into_inner();
        let handles = if all {
            supervisor.containers(&NAMESPACE)
        } else {
            vec![self.container(&request.id).await?]
        };
        let listed = supervisor.list(&handles).await;
        if !all && listed.is_empty() {
            return Err(status(handles[0].gone()));
        }
        Ok(state::response(listed))
    }

    type EventsStream = EventStream;

    async fn events(
        &self,
        request: Request<types::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let events = self.supervisor().await.events();
        let counted = follower(&request)?;
        let receives = receives(&request);
        Ok(events::stream(events, &request.into_inner(), &self.connections, counted, receives)?)
    }

    async fn stats(
        &self,
        request: Request<types::StatsRequest>,
    ) -> Result<Response<types::StatsResponse>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id).await?;
        let read = self.supervisor().await.stats(&container).await;
        Ok(Response::new(stats::response(read.map_err(status)?)))
    }
}
