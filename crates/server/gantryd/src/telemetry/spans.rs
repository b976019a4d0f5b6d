//! Spans of traces: from `tracing`, where the engine makes them, to the collector.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Status, TracerProvider},
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
    },
    tonic::common::v1::InstrumentationScope,
    tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanLimits, SpanProcessor},
};
use prost::Message as _;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{sleep, timeout},
};
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use super::{
    Counts,
    collector::{Collector, Failure},
};

/// Spans that may wait for the collector.
const QUEUE: usize = 2048;

/// Spans that are sent in one message, their bytes, and how long the first waits for others. Collectors take 4 MiB at
/// least.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
const GATHERING: Duration = Duration::from_secs(1);

/// Between attempts to send the same spans.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Attempts to send the same spans, which take two minutes and a half or more: after so many others shall have their turn.
const ATTEMPTS: u32 = 10;

/// Bytes of one text of a span: the messages of runtimes can be long.
const MAX_TEXT: usize = 1024;

/// The spans of this program's crates, whatever the log lets through. Events are for the log alone.
pub(crate) fn layer(tracer: SdkTracer) -> impl Layer<Registry> + Send + Sync {
    let is_ours =
        |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with("gantry");
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(filter_fn(is_ours).with_max_level_hint(LevelFilter::INFO))
}

/// What makes spans, and the queue in which they wait when they have ended.
pub(super) fn tracer(ratio: f64, counts: Arc<Counts>) -> (SdkTracer, Queue) {
    let (sender, spans) = mpsc::channel(QUEUE);
    let root = Sampler::TraceIdRatioBased(ratio);
    let provider = SdkTracerProvider::builder()
        // Otherwise environment variables would count.
        .with_span_limits(SpanLimits::default())
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_span_processor(Enqueue { sender, counts })
        .build();
    (provider.tracer("gantryd"), Queue(spans))
}

/// Puts ended spans into the queue.
#[derive(Debug)]
struct Enqueue {
    sender: Sender<SpanData>,
    counts: Arc<Counts>,
}

impl SpanProcessor for Enqueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        shorten(&mut span);
        if self.sender.try_send(span).is_err() {
            Counts::add(&self.counts.dropped_spans, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn shorten(span: &mut SpanData) {
    let cut = |text: &str| {
        let longest = text.len().min(MAX_TEXT);
        (0..=longest).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    for KeyValue { value, .. } in &mut span.attributes {
        if let Value::String(text) = value
            && text.as_str().len() > MAX_TEXT
        {
            let end = cut(text.as_str());
            *value = Value::from(text.as_str()[..end].to_owned());
        }
    }
    if let Status::Error { description } = &mut span.status {
        let end = cut(description);
        if end < description.len() {
            *description = description[..end].to_owned().into();
        }
    }
}

/// Spans that wait for the collector.
pub(super) struct Queue(Receiver<SpanData>);

impl Queue {
    /// Sends spans until `stop` resolves, and what is left then, without a second attempt.
    pub(super) async fn send(mut self, collector: Collector, stop: impl Future<Output = ()>) {
        let mut batch = Batch::default();
        let sending = async {
            let mut lost = Lost::default();
            while self.gather(&mut batch).await {
                deliver(&collector, &mut batch).await;
                lost.tell(collector.counts());
            }
        };
        tokio::select! {
            () = sending => {}
            () = stop => {}
        }
        loop {
            while !batch.is_full()
                && let Ok(span) = self.0.try_recv()
            {
                batch.push(span);
            }
            if batch.spans.is_empty() || attempt(&collector, &batch.spans).await.is_err() {
                break;
            }
            batch = Batch::default();
        }
    }

    /// Waits for spans. They are in `batch` even if this is dropped meanwhile.
    async fn gather(&mut self, batch: &mut Batch) -> bool {
        let Some(first) = self.0.recv().await else { return false };
        batch.push(first);
        let more = async {
            while !batch.is_full()
                && let Some(span) = self.0.recv().await
            {
                batch.push(span);
            }
        };
        let _ = timeout(GATHERING, more).await;
        true
    }
}

/// Spans for one message.
#[derive(Default)]
struct Batch {
    spans: Vec<Message>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, span: SpanData) {
        let span = Message::from(span);
        self.bytes += span.encoded_len();
        self.spans.push(span);
    }

    fn is_full(&self) -> bool {
        self.spans.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// Sends spans, until the collector takes them or refuses to, or has failed to take them so often that they are dropped.
async fn deliver(collector: &Collector, batch: &mut Batch) {
    let mut pause = FIRST_PAUSE;
    for left in (0..ATTEMPTS).rev() {
        if attempt(collector, &batch.spans).await != Err(Failure::Later) {
            break;
        }
        if left == 0 {
            Counts::add(&collector.counts().dropped_spans, batch.spans.len());
            break;
        }
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    *batch = Batch::default();
}

async fn attempt(collector: &Collector, batch: &[Message]) -> Result<(), Failure> {
    let scope = InstrumentationScope {
        name: "gantryd".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = ScopeSpans { scope: Some(scope), spans: batch.to_vec(), ..ScopeSpans::default() };
    let of_server = ResourceSpans {
        resource: Some(collector.resource()),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    let request = ExportTraceServiceRequest { resource_spans: vec![of_server] };
    let mut client = TraceServiceClient::new(collector.channel());
    let sent = collector.attempt(client.export(collector.request(request))).await;
    let counts = collector.counts();
    let rejected = match &sent {
        Ok(answer) => {
            let rejected = answer.partial_success.as_ref().map_or(0, |part| part.rejected_spans);
            usize::try_from(rejected).unwrap_or(0).min(batch.len())
        }
        Err(Failure::Refused) => batch.len(),
        Err(Failure::Later) => 0,
    };
    Counts::add(&counts.dropped_spans, rejected);
    sent.map(|_| Counts::add(&counts.sent_spans, batch.len() - rejected))
}

/// Spans that were lost while the collector has taken others, for the log.
#[derive(Default)]
struct Lost {
    known: u64,
    are_being: bool,
}

impl Lost {
    /// Notes the first loss, and the end of losses.
    fn tell(&mut self, counts: &Counts) {
        let dropped = counts.dropped_spans.load(Relaxed);
        let are_being = dropped > self.known;
        if are_being && !self.are_being {
            tracing::warn!(
                dropped,
                "spans were dropped: more than {QUEUE} waited, or the collector did not take them"
            );
        }
        self.known = dropped;
        self.are_being = are_being;
    }
}

#[cfg(test)]
mod tests;
