//! A span for each call: the root of what this server does for it, and part of the trace that its metadata names
//! (`traceparent` and `tracestate`, <https://www.w3.org/TR/trace-context/>). Names are those of OpenTelemetry's
//! semantic conventions.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Peer, calls::OTHER, is_fault, name_of_code, permission::known};

/// A longer `tracestate` is not kept: the specification wants so many bytes of everybody, and every span of the trace has
/// them.
const MAX_TRACE_STATE: usize = 512;

/// Has calls traced, if there is telemetry.
#[derive(Clone, Copy)]
pub(crate) struct TraceLayer {
    pub(crate) is_on: bool,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, service: S) -> Trace<S> {
        Trace { service, is_on: self.is_on }
    }
}

/// A service whose calls are traced.
#[derive(Clone)]
pub(crate) struct Trace<S> {
    service: S,
    is_on: bool,
}

type Traced<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Trace<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Traced<S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !self.is_on {
            return Either::Left(self.service.call(request));
        }
        let span = span(&request);
        let call = span.in_scope(|| self.service.call(request));
        Either::Right(Box::pin(traced(call, Call { span, has_ended: false })))
    }
}

fn span(request: &http::Request<Body>) -> Span {
    let path = request.uri().path();
    let known = known(path).map(|path| path.trim_start_matches('/'));
    // The client chooses the path, and may have no role here.
    let (name, method) = (known.unwrap_or("grpc"), known.unwrap_or(OTHER));
    let span = tracing::info_span!(
        parent: None,
        "call",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.method_original = Empty,
        rpc.response.status_code = Empty,
        error.type = Empty,
        network.transport = "unix",
        gantry.peer.uid = Empty,
        gantry.peer.pid = Empty,
    );
    if known.is_none() {
        span.record("rpc.method_original", path.trim_start_matches('/'));
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        if let Some(user) = peer.who.user {
            span.record("gantry.peer.uid", i64::from(user));
        }
        if let Some(process) = peer.who.process {
            span.record("gantry.peer.pid", i64::from(process));
        }
    }
    let caller = TraceContextPropagator::new()
        .extract_with_context(&opentelemetry::Context::new(), &Metadata(request.headers()));
    // Fails if nobody records the span.
    let _ = span.set_parent(caller);
    span
}

/// Metadata as headers of a trace.
struct Metadata<'a>(&'a HeaderMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        (key != "tracestate" || value.len() <= MAX_TRACE_STATE).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A call that is under way. Its span ends with its answer, or when its client goes away.
struct Call {
    span: Span,
    has_ended: bool,
}

impl Call {
    fn end(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        // A span ends when it is left for the last time.
        let _in = self.span.enter();
        let name = name_of_code(code);
        self.span.record("rpc.response.status_code", name);
        if is_fault(code) {
            self.span.record("error.type", name);
            self.span.record("otel.status_code", "ERROR");
            self.span.record("otel.status_description", message);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "");
    }
}

async fn traced<E>(
    call: impl Future<Output = Result<http::Response<Body>, E>>,
    mut of: Call,
) -> Result<http::Response<Body>, E> {
    let answer = call.instrument(of.span.clone()).await?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        of.end(status.code(), status.message());
        return Ok(answer);
    }
    Ok(answer.map(|body| Body::new(Answer { body, call: of })))
}

/// An answer whose end is the end of the call.
struct Answer {
    body: Body,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(status) = Status::from_header_map(trailers)
        {
            self.call.end(status.code(), status.message());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
