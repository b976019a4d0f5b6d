use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{self, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use gantry_disk::OwnFiles;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use opentelemetry::trace::{Span as _, Tracer};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_sdk::Resource;
use tokio::net::TcpListener;
use tonic::body::Body;
use tower::{Layer as _, Service, service_fn};
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::{config::Headers, rpc::TraceLayer};

#[test]
fn what_is_too_much_is_dropped_and_counted() {
    let counts = Arc::new(Counts::default());
    let (tracer, Queue(spans)) = tracer(1.0, Arc::clone(&counts));
    for _ in 0..QUEUE + 10 {
        tracer.start("call").end();
    }
    assert_eq!((spans.len(), counts.dropped_spans.load(Relaxed)), (QUEUE, 10));
}

#[test]
fn no_text_is_long() {
    let (tracer, Queue(mut spans)) = tracer(1.0, Arc::default());
    let long = "ä".repeat(MAX_TEXT);
    let mut span = tracer.start("call");
    span.set_attribute(KeyValue::new("long", long.clone()));
    span.set_status(Status::error(long));
    span.end();
    let span = Message::from(spans.try_recv().unwrap());
    assert_eq!(span.status.unwrap().message, "ä".repeat(MAX_TEXT / 2));
    let value = span.attributes.into_iter().next().unwrap().value.unwrap();
    assert_eq!(value.value, Some(any_value::Value::StringValue("ä".repeat(MAX_TEXT / 2))));
}

#[test]
fn nothing_is_made_of_what_is_not_sampled() {
    let (tracer, Queue(spans)) = tracer(0.0, Arc::default());
    tracer.start("call").end();
    assert!(spans.is_empty());
}

#[test]
fn a_batch_has_a_bound_of_bytes() {
    let (tracer, Queue(mut spans)) = tracer(1.0, Arc::default());
    let mut batch = Batch::default();
    while !batch.is_full() {
        let mut span = tracer.start("call");
        for key in ["a", "b", "c", "d", "e"] {
            span.set_attribute(KeyValue::new(key, "x".repeat(MAX_TEXT)));
        }
        span.end();
        batch.push(spans.try_recv().unwrap());
    }
    let bytes: usize = batch.spans.iter().map(Message::encoded_len).sum();
    assert!((BATCH_BYTES..2 * BATCH_BYTES).contains(&bytes), "{bytes}");
    assert!(batch.spans.len() < BATCH);
}

/// The end of a call is in its trailers.
struct Ending(Option<HeaderMap>);

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

/// The span of a call for this path, and when its answer had begun.
async fn call(path: &str, trace_state: &str) -> (Message, u64) {
    let (tracer, Queue(mut spans)) = tracer(1.0, Arc::default());
    let _guard = tracing::subscriber::set_default(Registry::default().with(layer(tracer)));
    let answer = service_fn(async |_| {
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("13"),
        )]);
        Ok::<_, Infallible>(http::Response::new(Body::new(Ending(Some(trailers)))))
    });
    let request = http::Request::post(path)
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", trace_state);
    let request = request.body(Body::empty()).unwrap();
    let answer = TraceLayer { is_on: true }.layer(answer).call(request).await.unwrap();
    assert!(spans.is_empty());
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut body = answer.into_body();
    while poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some() {}
    drop(body);
    (spans.try_recv().unwrap().into(), begun.as_nanos().try_into().unwrap())
}

fn text<'a>(span: &'a Message, key: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_ends_with_its_answer() {
    let (span, begun) = call("/types.API/Events", "vendor=1").await;
    assert!(span.end_time_unix_nano > begun);
    assert_eq!((span.name.as_str(), span.trace_state.as_str()), ("types.API/Events", "vendor=1"));
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "types.API/Events"),
        ("rpc.response.status_code", "INTERNAL"),
        ("error.type", "INTERNAL"),
    ] {
        assert_eq!(text(&span, key), Some(value), "{key}");
    }
    assert_eq!(text(&span, "rpc.method_original"), None);
}

#[tokio::test]
async fn what_a_client_chooses_is_short() {
    let long = "x".repeat(8000);
    let (span, _) = call(&format!("/{long}"), &format!("vendor={long}")).await;
    assert_eq!((span.name.as_str(), span.trace_state.as_str()), ("grpc", ""));
    assert_eq!(text(&span, "rpc.method"), Some("_OTHER"));
    assert_eq!(text(&span, "rpc.method_original"), Some(&long[..MAX_TEXT]));
    assert!(span.encoded_len() < 3 * MAX_TEXT);
}

#[tokio::test(start_paused = true)]
async fn no_spans_are_sent_for_ever() {
    // Nobody accepts.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap()).parse().unwrap();
    let (counts, names) = (Arc::new(Counts::default()), OwnFiles::new().unwrap());
    let (headers, resource) = (Headers::default(), Resource::builder_empty().build());
    let collector = Collector::new(endpoint, names, &headers, &resource, Arc::clone(&counts));
    let (tracer, Queue(mut spans)) = tracer(1.0, Arc::default());
    tracer.start("call").end();
    let mut batch = Batch::default();
    batch.push(spans.try_recv().unwrap());
    deliver(&collector, &mut batch).await;
    assert!(batch.spans.is_empty());
    assert_eq!(counts.dropped_spans.load(Relaxed), 1);
    assert_eq!(counts.failed_exports.load(Relaxed), u64::from(ATTEMPTS));
}
