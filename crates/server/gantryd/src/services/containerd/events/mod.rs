//! Events: of tasks, of the other services' records, and those that clients publish.

mod envelope;
mod fields;
mod stream;
mod topic;
mod wanted;

use gantry_api::containerd::{
    events::{ForwardRequest, PublishRequest, SubscribeRequest, events_server},
    types::Envelope,
};
use gantry_domain::Namespace;
use gantry_events::{EventLog, Publication};
use gantry_store::filter::Filters;
use prost_types::Any;
use stream::EnvelopeStream;
use tonic::{Request, Response, Status};
use wanted::Wanted;

use super::{
    Surface, request,
    status::{invalid, of_too_long},
};
use crate::rpc::{caller_began, follower, receives};

/// The service.
pub(super) struct Events(pub(super) Surface);

/// Publishes an event of a service itself: a message of `event_types` with its topic.
pub(super) async fn publish(log: &EventLog, namespace: &Namespace, topic: &str, event: Any) {
    let (namespace, topic) = (namespace.clone(), topic.to_owned());
    let Any { type_url, value } = event;
    let publication = Publication { namespace, topic, type_url, value, happened: None };
    if let Err(error) = log.publish(publication).await {
        // Its labels exceed a megabyte. The change is done all the same.
        tracing::warn!(%error, "an event is not published");
    }
}

/// Notes what subscribers have received, as long as the server runs.
pub(super) async fn note_receipts(surface: &Surface) {
    surface.supervisor().await.events().note_receipts().await;
}

#[tonic::async_trait]
impl events_server::Events for Events {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let PublishRequest { topic, event } = request.into_inner();
        topic::check("topic", &topic)?;
        let Any { type_url, value } = event.unwrap_or_default();
        let publication = Publication { namespace, topic, type_url, value, happened: None };
        self.add(publication).await
    }

    /// The namespace is the envelope's, whatever the metadata say.
    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<()>, Status> {
        let Some(envelope) = request.into_inner().envelope else {
            return Err(invalid("envelope", "envelope must be given"));
        };
        let Envelope { timestamp, namespace, topic, event } = envelope;
        let namespace = request::named("envelope.namespace", &namespace).map_err(|problem| {
            invalid(
                "envelope.namespace",
                format!("event envelope has invalid namespace: {problem}"),
            )
        })?;
        topic::check("envelope.topic", &topic)?;
        let happened = Some(envelope::happened(timestamp.as_ref())?);
        let Any { type_url, value } = event.unwrap_or_default();
        self.add(Publication { namespace, topic, type_url, value, happened }).await
    }

    type SubscribeStream = EnvelopeStream;

    /// Of all namespaces that the filters do not exclude.
    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<EnvelopeStream>, Status> {
        let filters = Filters::parse(&request.get_ref().filters).map_err(|error| {
            Status::unknown(format!(
                "subscription error: failed parsing subscription filters: {error}: invalid argument"
            ))
        })?;
        let counted = follower(&request)?;
        let log = self.0.supervisor().await.events();
        let wanted = Wanted::new(filters, caller_began(&request));
        Ok(Response::new(stream::begin(log, wanted, counted, receives(&request))))
    }
}

impl Events {
    async fn add(&self, publication: Publication) -> Result<Response<()>, Status> {
        let log = self.0.supervisor().await.events();
        log.publish(publication).await.map_err(of_too_long)?;
        Ok(Response::new(()))
    }
}
