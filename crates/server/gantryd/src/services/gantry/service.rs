//! The service.

use std::pin::Pin;

use gantry_api::v1::{self, container_service_server::ContainerService};
use gantry_domain::{ContainerKey, Namespace, ProcessId};
use gantry_events::Ended;
use gantry_supervisor::{ContainerHandle, Supervisor, SupervisorError};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    attach::{self, AttachStream, Input},
    messages,
    parse::{self, Wanted},
    watch::{self, Watch, WatchStream},
};
use crate::{
    rpc::{self, BadField, follower, listing},
    services::PendingSupervisor,
};

/// Containers in one message of a list.
const IN_A_MESSAGE: usize = 100;

/// Containers of all namespaces.
#[derive(Clone)]
pub(crate) struct Containers(pub(crate) PendingSupervisor);

pub(super) fn status(error: &SupervisorError) -> Status {
    Status::new(rpc::code(error.kind()), error.to_string())
}

#[tonic::async_trait]
impl ContainerService for Containers {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let _counted = follower(&request)?;
        let request = request.into_inner();
        let from = parse::begin(request.begin)?;
        let wanted = Wanted::parse(request.filter)?;
        let types = parse::types(&request.types)?;
        let heartbeat = parse::heartbeat(request.heartbeat_interval)?;
        let watcher = self.supervisor().await.events().watch_all(from);
        Ok(Response::new(watch::stream(Watch { watcher, wanted, types, heartbeat, _counted })))
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitResponse>, Status> {
        let v1::WaitRequest { namespace, container_id, process_id } = request.into_inner();
        let container = parse::key(&namespace, &container_id)?;
        let process = parse::process_id(&process_id)?;
        let ended = self.ended(&container, &process).await.map_err(|error| status(&error))?;
        Ok(Response::new(messages::ended(&ended)))
    }

    type AttachStream = AttachStream;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<AttachStream>, Status> {
        let counted = follower(&request)?;
        let mut incoming = request.into_inner();
        let begin = attach::begin(&mut incoming).await?;
        let v1::AttachBegin { namespace, container_id, process_id } = begin;
        let within =
            |bad: BadField| BadField { field: format!("begin.{}", bad.field).into(), ..bad };
        let key = parse::key(&namespace, &container_id).map_err(within)?;
        let process = parse::process_id(&process_id).map_err(within)?;
        let supervisor = self.supervisor().await;
        let attached = supervisor.attach(&key, &process).await;
        let attachment = attached.map_err(|error| status(&error))?;
        let exit = attachment.exit();
        let ending =
            Box::pin(async move { exit.await.map(messages::exit).map_err(|error| status(&error)) });
        let input = Input { incoming, stdin: attachment.stdin() };
        Ok(Response::new(attach::stream(attachment, ending, input, counted)))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<v1::ListResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let counted = listing(&request).await;
        let wanted = Wanted::parse(request.into_inner().filter)?;
        let supervisor = self.supervisor().await;
        let mut containers = Vec::new();
        for namespace in supervisor.namespaces() {
            if wanted.has_namespace(&namespace) {
                containers.extend(list(supervisor, &namespace, &wanted).await);
            }
        }
        let mut containers = containers.into_iter().peekable();
        let messages = std::iter::from_fn(move || {
            let _counted = &counted;
            containers.peek()?;
            let containers = containers.by_ref().take(IN_A_MESSAGE).collect();
            Some(Ok(v1::ListResponse { containers }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let v1::GetRequest { namespace, container_id } = request.into_inner();
        let ContainerKey { namespace, id } = parse::key(&namespace, &container_id)?;
        let supervisor = self.supervisor().await;
        let handle = supervisor.container(namespace.clone(), id).map_err(|error| status(&error))?;
        let listed = supervisor.list(std::slice::from_ref(&handle)).await;
        let Some(listed) = listed.first() else { return Err(status(&handle.gone())) };
        let container = Some(messages::container(&namespace, &listed.view));
        Ok(Response::new(v1::GetResponse { container }))
    }
}

async fn list(
    supervisor: &Supervisor,
    namespace: &Namespace,
    wanted: &Wanted,
) -> Vec<v1::Container> {
    let mut handles = supervisor.containers(namespace);
    handles.retain(|handle| wanted.has_id(handle.id()));
    let listed = supervisor.list(&handles).await;
    let views = listed.iter().map(|listed| &listed.view);
    let wanted = views.filter(|view| wanted.has_labels(&view.event_labels));
    wanted.map(|view| messages::container(namespace, view)).collect()
}

impl Containers {
    async fn supervisor(&self) -> &Supervisor {
        self.0.wait().await
    }

    /// Waits for the end of a process, unless the log remembers it.
    async fn ended(
        &self,
        container: &ContainerKey,
        process: &ProcessId,
    ) -> Result<Ended, SupervisorError> {
        let supervisor = self.supervisor().await;
        let log = supervisor.events();
        if let Some(ended) = log.ended(container, process) {
            return Ok(ended);
        }
        let handle = supervisor.container(container.namespace.clone(), container.id.clone());
        let waited = match handle {
            Ok(handle) => wait(&handle, process).await,
            Err(error) => Err(error),
        };
        // An id becomes free a moment before the exit is in the log: when that was written, the exit is, too.
        if waited.is_err() {
            log.flush().await;
        }
        match log.ended(container, process) {
            Some(ended) => Ok(ended),
            None => waited.map(|exit| Ended { exit, out_of_memory: false }),
        }
    }
}

async fn wait(
    container: &ContainerHandle,
    process: &ProcessId,
) -> Result<gantry_domain::Exit, SupervisorError> {
    container.created().await?;
    container.wait(process.clone()).await
}
