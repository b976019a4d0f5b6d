//! Metrics for a collector.

use std::{fs, time::Duration};

use gantry_tests::{Runtime, Server, patiently};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality::Cumulative, metric::Data, number_data_point::Value,
};
use rustix::process::Signal;
use tokio::net::TcpListener;

use crate::{
    collector::{Collector, find, has, points},
    measures,
};

/// A server that sends to this address, with this in its table `[otlp]`.
async fn start(address: std::net::SocketAddr, more: &str) -> Option<(Server, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let table = format!("[otlp]\nendpoint = \"http://{address}\"\ninterval = \"100ms\"\n{more}\n");
    fs::write(&config, table).unwrap();
    let arguments = ["--config", config.to_str().unwrap()];
    let server = Server::setup(Runtime::Runc).arguments(&arguments).start().await?;
    Some((server, dir))
}

#[tokio::test]
async fn a_collector_gets_the_metrics_of_the_server() {
    let collector = Collector::start().await;
    let Some((mut server, _config)) = start(collector.address, "container_usage = true").await
    else {
        return;
    };
    let container = server.container("c").sh("exec sleep 1000000").create().await.unwrap();
    let is_running = |metrics: &[_]| {
        let Some(containers) = find(metrics, "gantry.containers") else { return false };
        points(containers).iter().any(|point| {
            let is_it = has(&point.attributes, "gantry.container.state", "running")
                && has(&point.attributes, "gantry.api", "types");
            is_it && point.value == Some(Value::AsInt(1))
        })
    };
    let metrics = collector.gets("a container that runs", is_running).await;
    let calls = find(&metrics, "rpc.server.call.duration").unwrap();
    assert_eq!(calls.unit, "s");
    let Some(Data::Histogram(histogram)) = &calls.data else { panic!("{calls:?}") };
    assert_eq!(histogram.aggregation_temporality(), Cumulative);
    let created = histogram.data_points.iter().find(|point| {
        has(&point.attributes, "rpc.method", "types.API/CreateContainer")
            && has(&point.attributes, "rpc.response.status_code", "OK")
            && has(&point.attributes, "rpc.system.name", "grpc")
    });
    // The first export may have come before the end of the answer was counted.
    if let Some(created) = created {
        assert_eq!((created.count, created.bucket_counts.iter().sum()), (1, 1));
        assert!(created.sum > Some(0.0) && created.start_time_unix_nano < created.time_unix_nano);
    }
    let memory = find(&metrics, "process.memory.usage").unwrap();
    assert_eq!(memory.unit, "By");
    let [memory] = points(memory) else { panic!("{memory:?}") };
    assert!(matches!(memory.value, Some(Value::AsInt(1_000_000..))), "{memory:?}");

    let of_it = |metrics: &[_]| find(metrics, "container.memory.usage").is_some();
    let used = collector.gets("the usage of a container", of_it).await;
    let pids = points(find(&used, "gantry.container.pids").unwrap());
    assert!(has(&pids[0].attributes, "container.id", &container.id), "{pids:?}");
    assert_eq!(pids[0].value, Some(Value::AsInt(1)));

    let export = measures(&server).await.export.unwrap();
    assert!(export.metric_exports >= 2 && export.failed_metric_exports == 0, "{export:?}");
    // The last export has what was counted at the end.
    container.init.kill().await;
    let before = collector.count();
    server.end(Signal::TERM).await;
    assert!(collector.count() > before);
    server.start_again().await;
    server.finish().await;
}

#[tokio::test]
async fn a_collector_that_hangs_costs_exports_only() {
    // Accepts nothing: the kernel does, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let Some((mut server, _config)) = start(silent.local_addr().unwrap(), "").await else { return };
    let container = server.container("c").sh("exec sleep 1000000").create().await.unwrap();
    let dropped = async {
        while measures(&server).await.export.unwrap().failed_metric_exports == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    patiently("an export is given up", dropped).await;
    container.init.kill().await;
    let (status, took) = server.end(Signal::TERM).await;
    assert!(status.success() && took < Duration::from_secs(2), "{status} after {took:?}");
    server.start_again().await;
    server.finish().await;
}
