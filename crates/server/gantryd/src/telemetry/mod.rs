//! Telemetry for a collector, by OTLP over gRPC. Off unless the configuration names a collector.
//!
//! Whoever makes telemetry hands it over and goes on. A thread of its own sends it, so that a collector that is slow,
//! hangs or is away costs telemetry and nothing else; [`Counts`] says how much.

mod collector;
mod connect;
mod resource;
mod spans;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

pub(crate) use collector::Collector;
use gantry_disk::OwnFiles;
use http::Uri;
use opentelemetry_sdk::{Resource, trace::SdkTracer};
use spans::Queue;
pub(crate) use spans::layer;
use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

use crate::config::{Config, Headers};

/// How long the program waits at its end for the last telemetry.
const FLUSH_DEADLINE: Duration = Duration::from_millis(200);

/// What became of telemetry since the start of the server.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Spans that the collector has taken.
    pub(crate) sent_spans: AtomicU64,
    /// Spans that were lost: too many waited, or the collector has refused them.
    pub(crate) dropped_spans: AtomicU64,
    /// Attempts to send spans or metrics that have failed.
    pub(crate) failed_exports: AtomicU64,
}

impl Counts {
    fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Relaxed);
    }
}

/// Telemetry that has somewhere to go.
pub(crate) struct Telemetry {
    endpoint: Uri,
    headers: Headers,
    resource: Resource,
    counts: Arc<Counts>,
    tracer: SdkTracer,
    queue: Queue,
}

impl Telemetry {
    /// None if the configuration names no collector. Nothing is sent before [`Telemetry::start`].
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let endpoint = config.otlp.endpoint.clone()?;
        let headers = config.otlp.headers.clone();
        let resource = resource::of(config);
        let counts = Arc::new(Counts::default());
        let (tracer, queue) = spans::tracer(config.otlp.sampling, Arc::clone(&counts));
        Some(Self { endpoint, headers, resource, counts, tracer, queue })
    }

    /// Where spans begin.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }

    /// Begins to send.
    pub(crate) fn start(self) -> io::Result<Sending> {
        let Self { endpoint, headers, resource, counts, queue, tracer: _ } = self;
        let builder = &mut Builder::new_current_thread();
        let runtime = builder.thread_name("telemetry").enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = watch::channel(());
        let (ended, has_ended) = mpsc::channel::<()>();
        let names = OwnFiles::new()?;
        let collector = {
            let _entered = handle.enter();
            Collector::new(endpoint, names, &headers, &resource, counts)
        };
        let spans = queue.send(collector.clone(), async move {
            // The other end is dropped, which is an error.
            let _ = stopped.changed().await;
        });
        thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            runtime.block_on(spans);
            drop(ended);
            runtime.shutdown_background();
        })?;
        Ok(Sending { collector, runtime: handle, stop, has_ended })
    }
}

/// Telemetry that is being sent.
pub(crate) struct Sending {
    collector: Collector,
    runtime: Handle,
    stop: watch::Sender<()>,
    has_ended: mpsc::Receiver<()>,
}

impl Sending {
    /// Where telemetry is sent to.
    pub(crate) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The thread that sends, for tasks that do nothing else. They end when the server does.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Sends what is left, if that can be done at once.
    pub(crate) fn finish(self) {
        drop(self.stop);
        let _ = self.has_ended.recv_timeout(FLUSH_DEADLINE);
    }
}
