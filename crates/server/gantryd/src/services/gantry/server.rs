//! The service `ServerService`: numbers of the server, and what containers use.

use std::{pin::Pin, vec};

use gantry_api::v1::{self, server_service_server::ServerService};
use gantry_supervisor::{ContainerHandle, ContainerUsage, Supervisor};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{measures, messages, parse::Wanted};
use crate::{
    measures::Measures,
    rpc::listing,
    services::{PendingSupervisor, time::nearest_duration},
};

/// Containers that are read for one message.
const IN_A_MESSAGE: usize = 100;

/// What the server does and needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) measures: Measures,
    pub(crate) supervisor: PendingSupervisor,
}

type Usage = Pin<Box<dyn Stream<Item = Result<v1::ListUsageResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ServerService for Server {
    async fn get_measures(
        &self,
        request: Request<v1::GetMeasuresRequest>,
    ) -> Result<Response<v1::GetMeasuresResponse>, Status> {
        let _counted = listing(&request).await;
        Ok(Response::new(measures::response(&self.measures.snapshot().await)))
    }

    type ListUsageStream = Usage;

    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<Usage>, Status> {
        let counted = listing(&request).await;
        let wanted = Wanted::parse(request.into_inner().filter)?;
        let supervisor = self.supervisor.wait().await;
        let mut handles = Vec::new();
        for namespace in supervisor.namespaces() {
            if wanted.has_namespace(&namespace) {
                let all = supervisor.containers(&namespace).into_iter();
                handles.extend(all.filter(|handle| {
                    let has_labels = || handle.labels().is_some_and(|it| wanted.has_labels(&it));
                    wanted.has_id(handle.id()) && has_labels()
                }));
            }
        }
        let rest = Rest { supervisor: supervisor.clone(), handles: handles.into_iter(), counted };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(rest, |mut rest| async {
            let containers = rest.next().await?;
            Some((Ok(v1::ListUsageResponse { containers }), rest))
        }))))
    }
}

/// Containers that were not read yet.
struct Rest {
    supervisor: Supervisor,
    handles: vec::IntoIter<ContainerHandle>,
    /// Among the lists of its connection.
    #[allow(dead_code, reason = "held for as long as the list is read")]
    counted: Option<OwnedSemaphorePermit>,
}

impl Rest {
    /// Those of the next message; none at the end.
    async fn next(&mut self) -> Option<Vec<v1::ContainerUsage>> {
        loop {
            let part: Vec<_> = self.handles.by_ref().take(IN_A_MESSAGE).collect();
            if part.is_empty() {
                return None;
            }
            let used = self.supervisor.usage(&part).await;
            if !used.is_empty() {
                return Some(used.iter().map(message).collect());
            }
        }
    }
}

fn message(used: &ContainerUsage) -> v1::ContainerUsage {
    let ContainerUsage { key, at, usage } = used;
    v1::ContainerUsage {
        namespace: messages::namespace(&key.namespace),
        container_id: key.id.to_string(),
        time: Some((*at).into()),
        cpu_time: Some(nearest_duration(std::time::Duration::from_nanos(usage.cpu))),
        memory_bytes: usage.memory,
        memory_limit_bytes: usage.memory_limit,
        pids: usage.pids,
    }
}
