//! Telemetry: traces of calls reach a collector, and a collector that is away or hangs costs nothing but telemetry.

use std::{
    fs,
    time::{Duration, Instant},
};

use gantry_api::{
    types::GetServerVersionRequest,
    v1::{GetMeasuresRequest, server_service_client::ServerServiceClient},
};
use gantry_tests::{
    Runtime::Runc,
    Server, eventually,
    otlp::{Collector, attribute, duration, has_failed},
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use rustix::process::Signal;
use tokio::{net::TcpListener, time::timeout};
use tonic::Request;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const CREATE: &str = "types.API/CreateContainer";
const VERSION: &str = "types.API/GetServerVersion";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE}-{PARENT}-{:02x}", u8::from(sampled))
}

async fn start(endpoint: &str) -> Option<Server> {
    Server::setup(Runc).arguments(&["--otlp-endpoint", endpoint]).start().await
}

async fn version(server: &Server, traceparent: Option<String>) {
    let mut request = Request::new(GetServerVersionRequest {});
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    }
    server.service.api().get_server_version(request).await.unwrap();
}

/// The names of a span and all those around it, from the outermost.
fn path(spans: &[Span], span: &Span) -> Vec<String> {
    let around = spans.iter().find(|other| other.span_id == span.parent_span_id);
    let mut path = around.map(|around| path(spans, around)).unwrap_or_default();
    path.push(span.name.clone());
    path
}

#[tokio::test]
async fn a_create_is_one_trace_of_its_caller() {
    let collector = Collector::start().await;
    let Some(server) = start(&collector.endpoint()).await else { return };
    let container = server.container("c").metadata("traceparent", &traceparent(true));
    let begin = Instant::now();
    let container = container.metadata("tracestate", "vendor=1").create().await.unwrap();
    let took = begin.elapsed();
    let spans = collector.gets(CREATE).await;
    container.init.kill().await;

    let spans: Vec<_> = spans.into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let named = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name:?} in {spans:#?}"))
    };
    let call = named(CREATE);
    assert_eq!(hex(&call.parent_span_id), PARENT);
    assert_eq!((call.kind(), call.trace_state.as_str()), (SpanKind::Server, "vendor=1"));
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", CREATE),
        ("rpc.response.status_code", "OK"),
        ("gantry.peer.uid", "0"),
    ] {
        assert_eq!(attribute(&call.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(path(&spans, named("runtime run")), [CREATE, "create", "launch", "runtime run"]);
    assert_eq!(path(&spans, named("shim")), [CREATE, "create", "shim"]);
    assert_eq!(path(&spans, named("journal")), [CREATE, "create", "journal"]);
    let id = attribute(&named("create").attributes, "container.id");
    assert_eq!(id.as_ref(), Some(&container.id));
    assert!(spans.iter().all(|span| !has_failed(span)), "{spans:#?}");
    // The call's answer may have gone out before the step's task has ended.
    let [create, launch, runtime] =
        ["create", "launch", "runtime run"].map(|name| duration(named(name)));
    assert!(took >= launch && create >= launch && launch >= runtime);
    assert!(runtime > Duration::from_millis(1), "{runtime:?}");

    let resource = collector.got().resource.attributes;
    assert_eq!(attribute(&resource, "service.name").as_deref(), Some("gantryd"));
    assert!(attribute(&resource, "service.instance.id").is_some_and(|id| id.len() == 36));
    // No line of the log has anything of a span.
    assert!(!server.log().contains("otel."), "{}", server.log());
    server.finish().await;
    // The end of the container is not part of the call that has made it.
    let spans = collector.got().spans;
    assert!(spans.iter().all(|span| span.name != "runtime delete"), "{spans:#?}");
}

#[tokio::test]
async fn an_error_of_the_runtime_is_in_the_trace() {
    let collector = Collector::start().await;
    let Some(server) = start(&collector.endpoint()).await else { return };
    let container = server.container("c").args(&["/no/such/program"]);
    container.metadata("traceparent", &traceparent(true)).create().await.unwrap_err();
    let spans = collector.gets(CREATE).await;
    for name in ["create", "launch", "runtime run"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        let said = &span.status.as_ref().unwrap().message;
        assert!(has_failed(span) && said.contains("/no/such/program"), "{span:#?}");
    }
    // What the runtime has left is looked for in the same trace.
    let state = spans.iter().find(|span| span.name == "runtime state").unwrap();
    assert_eq!(path(&spans, state), [CREATE, "create", "runtime state"]);
    server.finish().await;
}

#[tokio::test]
async fn a_caller_decides_whether_its_calls_are_traced() {
    let collector = Collector::start().await;
    let setup = Server::setup(Runc);
    let arguments = ["--otlp-endpoint", &collector.endpoint(), "--otlp-sampling", "0"];
    let Some(server) = setup.arguments(&arguments).start().await else { return };
    version(&server, None).await;
    version(&server, Some(traceparent(false))).await;
    version(&server, Some(traceparent(true))).await;
    collector.gets(VERSION).await;
    // All that is left is sent at the end.
    server.finish().await;
    let spans = collector.got().spans;
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!(hex(&spans[0].parent_span_id), PARENT);
}

#[tokio::test]
async fn the_configuration_has_headers_and_attributes() {
    let collector = Collector::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gantryd.toml");
    let text = format!(
        "[otlp]\nendpoint = \"{}\"\nheaders = {{ x-key = \"very-secret\" }}\n\
         attributes = {{ \"deployment.environment.name\" = \"test\" }}\n",
        collector.endpoint()
    );
    fs::write(&file, text).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--log-level", "debug"];
    let setup = Server::setup(Runc).variable("OTEL_SERVICE_NAME", "other").arguments(&arguments);
    let Some(server) = setup.start().await else { return };
    collector.gets(VERSION).await;
    let got = collector.got();
    assert_eq!(got.metadata.get("x-key").unwrap(), "very-secret");
    let value = |key| attribute(&got.resource.attributes, key);
    assert_eq!(value("deployment.environment.name").as_deref(), Some("test"));
    assert_eq!(value("service.name").as_deref(), Some("other"));
    assert!(!server.log().contains("very-secret"));
    server.finish().await;
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_nothing() {
    // The kernel accepts connections, and nobody reads.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let Some(mut server) = start(&endpoint).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.init.kill().await;
    // More spans than may wait.
    for _ in 0..4000 {
        // An attempt to send takes longer.
        timeout(Duration::from_secs(8), version(&server, None)).await.expect("an answer");
    }
    let mut client = ServerServiceClient::new(server.service.channel());
    let measures = client.get_measures(GetMeasuresRequest {}).await.unwrap().into_inner();
    let exported = measures.export.unwrap();
    assert!(exported.dropped_spans > 0 && exported.spans == 0, "{exported:?}");
    let (status, took) = server.end(Signal::TERM).await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    server.start_again().await;
    server.finish().await;
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_has_waited() {
    let collector = Collector::start().await;
    let (address, endpoint) = (collector.address, collector.endpoint());
    let Some(server) = start(&endpoint).await else { return };
    collector.gets(VERSION).await;
    drop(collector);
    version(&server, Some(traceparent(true))).await;
    server.logs("telemetry cannot be sent").await;
    let again = Collector::start_at(address).await;
    let of_caller = |span: &Span| hex(&span.trace_id) == TRACE;
    eventually("the span that has waited", || again.got().spans.iter().any(of_caller)).await;
    server.logs("telemetry is sent again").await;
    let log = server.log();
    assert_eq!(log.matches("telemetry cannot be sent").count(), 1, "{log}");
    server.finish().await;
}

#[tokio::test]
async fn nothing_is_sent_without_an_endpoint() {
    let Some(server) = Server::own(Runc).await else { return };
    version(&server, Some(traceparent(true))).await;
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let name =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    assert!(threads.flatten().all(|task| name(&task).trim() != "telemetry"));
    server.finish().await;
}
