//! A collector of telemetry, as far as tests need one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{Span, status::StatusCode},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

use crate::eventually;

/// A collector that keeps what it gets. It ends when it is dropped, and so do its connections.
#[derive(Debug)]
pub struct Collector {
    /// Where it is.
    pub address: SocketAddr,
    got: Arc<Mutex<Got>>,
    /// Its own, which ends all its tasks. None once it is dropped.
    runtime: Option<Runtime>,
}

/// What a collector has got.
#[derive(Debug, Clone, Default)]
pub struct Got {
    /// All spans, in the order of their ends.
    pub spans: Vec<Span>,
    /// Of the last export.
    pub resource: Resource,
    /// Of the last export.
    pub metadata: MetadataMap,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// Starts one on this address.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn start_at(address: SocketAddr) -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let listening = runtime.spawn(TcpListener::bind(address));
        let listener = listening.await.expect("its runtime").expect("listen");
        let address = listener.local_addr().expect("an address");
        let got = Arc::<Mutex<Got>>::default();
        let traces = TraceServiceServer::new(Traces(Arc::clone(&got)));
        let serving = Server::builder()
            .add_service(traces)
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { serving.await.expect("serve") });
        Self { address, got, runtime: Some(runtime) }
    }

    /// As the server's configuration has it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has got until now.
    ///
    /// # Panics
    /// When an export has panicked.
    #[must_use]
    pub fn got(&self) -> Got {
        self.got.lock().expect("what it has got").clone()
    }

    /// Waits for a span of this name; all that have come by then.
    pub async fn gets(&self, name: &str) -> Vec<Span> {
        let is_there = || self.got().spans.iter().any(|span| span.name == name);
        eventually(&format!("a span {name:?}"), is_there).await;
        self.got().spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits until its tasks are gone, which a thread of another runtime is not allowed to.
            let ended = thread::spawn(|| drop(runtime)).join();
            assert!(ended.is_ok(), "its runtime has panicked");
        }
    }
}

struct Traces(Arc<Mutex<Got>>);

#[tonic::async_trait]
impl TraceService for Traces {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut got = self.0.lock().expect("what it has got");
        got.metadata = request.metadata().clone();
        for of_server in request.into_inner().resource_spans {
            got.resource = of_server.resource.unwrap_or_default();
            let spans = of_server.scope_spans.into_iter().flat_map(|scope| scope.spans);
            got.spans.extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The value of an attribute, as text.
#[must_use]
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// Whether a span has failed.
#[must_use]
pub fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// How long a span took.
#[must_use]
pub fn duration(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano)
}
