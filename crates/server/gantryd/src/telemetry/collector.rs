//! The connection to the collector: deadlines, failures, and what the log says of them.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use gantry_disk::OwnFiles;
use http::Uri;
use opentelemetry::KeyValue;
use opentelemetry_proto::{tonic::resource::v1::Resource, transform::common::tonic::Attributes};
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel,
};
use tonic_types::StatusExt;
use tower::service_fn;

use super::{Counts, connect::connect};
use crate::config::Headers;

/// How long an attempt to send something may take.
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);

/// A connection whose other end has vanished is given up after both together.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// Of a message in the log.
const MAX_MESSAGE: usize = 500;

/// Between two failures of which the log tells.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// After a collector has said that it does not know a kind of telemetry.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(3600);

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The collector is away, too slow, or has too much to do: it may take the same later.
    Later,
    /// It will not take this.
    Refused,
}

/// A kind of telemetry. There are collectors that take one and not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Traces,
    Metrics,
}

/// The collector, for one kind of telemetry.
#[derive(Clone)]
pub(crate) struct Collector {
    channel: Channel,
    metadata: MetadataMap,
    resource: Resource,
    counts: Arc<Counts>,
    kind: Kind,
    failing: Arc<Mutex<Failing>>,
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
            kind: Kind::Traces,
            failing: Arc::default(),
        }
    }

    /// The same collector for metrics.
    pub(crate) fn apart(&self) -> Self {
        Self { kind: Kind::Metrics, failing: Arc::default(), ..self.clone() }
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
    /// Nothing is sent, and counted, for a while after the collector has said that it does not know this kind.
    pub(crate) async fn attempt<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        if self.failing().is_unknown(Instant::now()) {
            return Err(Failure::Refused);
        }
        let answer = timeout(EXPORT_DEADLINE, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let kind = self.kind;
        match answer {
            Ok(answer) => {
                if self.failing().ends() {
                    let dropped_spans = self.counts.dropped_spans.load(Relaxed);
                    tracing::info!(?kind, dropped_spans, "telemetry is sent again");
                }
                Ok(answer.into_inner())
            }
            Err(status) => {
                self.counts.failed_exports.fetch_add(1, Relaxed);
                if self.failing().fails(status.code(), Instant::now()) {
                    let (code, error) = (status.code(), said(&status));
                    tracing::warn!(
                        ?kind,
                        ?code,
                        error,
                        "telemetry cannot be sent; what is too much is dropped"
                    );
                }
                Err(failure(&status))
            }
        }
    }

    fn failing(&self) -> MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known, and what the log has, of attempts that fail.
#[derive(Debug, Default)]
struct Failing {
    /// The log has told of it, and not of its end.
    is_told: bool,
    /// When the log has told of a failure: a collector that fails every other time does not fill it.
    told: Option<Instant>,
    /// When the collector did not know this kind of telemetry.
    unknown: Option<Instant>,
}

impl Failing {
    /// Notes a failure; whether the log is to tell of it.
    fn fails(&mut self, code: Code, now: Instant) -> bool {
        if code == Code::Unimplemented {
            self.unknown = Some(now);
        }
        if self.is_told || self.told.is_some_and(|told| now < told + LOG_PAUSE) {
            return false;
        }
        (self.is_told, self.told) = (true, Some(now));
        true
    }

    /// Notes that something was taken; whether the log is to tell of it.
    fn ends(&mut self) -> bool {
        self.unknown = None;
        std::mem::take(&mut self.is_told)
    }

    fn is_unknown(&self, now: Instant) -> bool {
        self.unknown.is_some_and(|unknown| now < unknown + UNKNOWN_PAUSE)
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

/// The specification of OTLP says what may be sent again. A collector for which a message is too large says
/// `RESOURCE_EXHAUSTED`, too, and is not to get the same again; one that has too much to do says when to come back.
fn failure(status: &Status) -> Failure {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Later,
        Code::ResourceExhausted if status.get_details_retry_info().is_some() => Failure::Later,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn what_is_too_large_is_not_sent_again() {
        assert_eq!(failure(&Status::unavailable("")), Failure::Later);
        assert_eq!(failure(&Status::unauthenticated("")), Failure::Refused);
        assert_eq!(failure(&Status::resource_exhausted("too large")), Failure::Refused);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let busy = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(failure(&busy), Failure::Later);
    }

    #[test]
    fn the_log_has_few_lines() {
        let (mut failing, start) = (Failing::default(), Instant::now());
        assert!(failing.fails(Code::Unavailable, start));
        assert!(!failing.fails(Code::Unavailable, start + 2 * LOG_PAUSE));
        assert!(failing.ends() && !failing.ends());
        let soon = start + LOG_PAUSE / 2;
        assert!(!failing.fails(Code::Unavailable, soon) && !failing.ends());
        // One that goes on is told in the end.
        assert!(!failing.fails(Code::Unavailable, soon));
        assert!(failing.fails(Code::Unavailable, start + LOG_PAUSE));
    }

    #[test]
    fn a_kind_that_is_not_known_is_left_alone() {
        let (mut failing, start) = (Failing::default(), Instant::now());
        assert!(failing.fails(Code::Unimplemented, start));
        assert!(failing.is_unknown(start + UNKNOWN_PAUSE / 2));
        let later = start + UNKNOWN_PAUSE;
        assert!(!failing.is_unknown(later) && !failing.fails(Code::Unimplemented, later));
        assert!(failing.is_unknown(later) && failing.ends() && !failing.is_unknown(later));
    }
}
