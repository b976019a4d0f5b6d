//! The connection to the collector: deadlines, failures, and what the log says of them.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use gantry_disk::OwnFiles;
use http::Uri;
use opentelemetry::KeyValue;
use opentelemetry_proto::{tonic::resource::v1::Resource, transform::common::tonic::Attributes};
use tokio::time::timeout;
use tonic::{
    Code, Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel,
};
use tower::service_fn;

use super::{Counts, connect::connect};
use crate::config::Headers;

/// How long a connection, or an attempt to send something, may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);

/// A connection whose other end has vanished is given up after both together.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// Of a message in the log.
const MAX_MESSAGE: usize = 500;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The collector is away, too slow, or has too much to do: it may take the same later.
    Later,
    /// It will not take this.
    Refused,
}

/// The collector, for all that is sent to it.
#[derive(Clone)]
pub(crate) struct Collector {
    channel: Channel,
    metadata: MetadataMap,
    resource: Resource,
    counts: Arc<Counts>,
    /// The last attempt has failed.
    fails: Arc<AtomicBool>,
}

impl Collector {
    /// Is called on the runtime that the connection is to be driven by. Connects when something is sent.
    pub(super) fn new(
        endpoint: Uri,
        names: OwnFiles,
        headers: &Headers,
        resource: &opentelemetry_sdk::Resource,
        counts: Arc<Counts>,
    ) -> Self {
        let endpoint = Channel::builder(endpoint)
            .connect_timeout(CONNECT_DEADLINE)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_DEADLINE);
        let attributes =
            resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        Self {
            channel: endpoint
                .connect_with_connector_lazy(service_fn(move |to| connect(to, names.clone()))),
            metadata: MetadataMap::from_headers(headers.0.iter().cloned().collect()),
            resource: Resource {
                attributes: Attributes::from(attributes).0,
                ..Resource::default()
            },
            counts,
            fails: Arc::default(),
        }
    }

    /// The same collector for another kind of telemetry, of whose failures the log tells apart: there are collectors that
    /// take one kind and not the other.
    pub(crate) fn apart(&self) -> Self {
        Self { fails: Arc::default(), ..self.clone() }
    }

    /// For a client of one of the collector's services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whose telemetry it is.
    pub(crate) fn resource(&self) -> Resource {
        self.resource.clone()
    }

    /// What became of telemetry.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// A request with the configured headers.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }

    /// Makes one attempt to send something. Failures are counted, and the log has the first one and the end of them.
    pub(crate) async fn attempt<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let answer = timeout(EXPORT_DEADLINE, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Ok(answer) => {
                if self.fails.swap(false, Relaxed) {
                    let dropped_spans = self.counts.dropped_spans.load(Relaxed);
                    tracing::info!(dropped_spans, "telemetry is sent again");
                }
                Ok(answer.into_inner())
            }
            Err(status) => {
                self.counts.failed_exports.fetch_add(1, Relaxed);
                if !self.fails.swap(true, Relaxed) {
                    let (code, error) = (status.code(), said(&status));
                    tracing::warn!(
                        ?code,
                        error,
                        "telemetry cannot be sent; what is too much is dropped"
                    );
                }
                Err(failure(status.code()))
            }
        }
    }
}

/// The message of a collector, which may be long; or what kept this server from asking it, with the first cause.
fn said(status: &Status) -> String {
    let mut first = status.source();
    while let Some(earlier) = first.and_then(|error| error.source()) {
        first = Some(earlier);
    }
    let cause = first.map(|error| format!(": {error}")).unwrap_or_default();
    format!("{}{cause}", status.message()).chars().take(MAX_MESSAGE).collect()
}

/// The specification of OTLP says what may be sent again.
fn failure(code: Code) -> Failure {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted => Failure::Later,
        _ => Failure::Refused,
    }
}
