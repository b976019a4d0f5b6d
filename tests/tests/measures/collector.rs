//! A collector of metrics.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use gantry_tests::eventually;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, NumberDataPoint, metric::Data},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Keeps all exports. It ends when it is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    server: JoinHandle<()>,
}

struct Service(Arc<Mutex<Vec<ExportMetricsServiceRequest>>>);

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::default());
        let service = MetricsServiceServer::new(Service(Arc::clone(&got)));
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, got, server }
    }

    /// How many exports have come.
    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// The metrics of an export, which are those of one resource and one scope.
    pub(crate) fn metrics(&self, export: usize) -> Vec<Metric> {
        let got = self.got.lock().unwrap();
        let [of_server] = got[export].resource_metrics.as_slice() else { panic!("{got:?}") };
        assert!(of_server.resource.is_some());
        let [scope] = of_server.scope_metrics.as_slice() else { panic!("{of_server:?}") };
        assert_eq!(scope.scope.as_ref().unwrap().name, "gantryd");
        scope.metrics.clone()
    }

    /// Waits for an export with such metrics.
    pub(crate) async fn gets(&self, what: &str, is_it: impl Fn(&[Metric]) -> bool) -> Vec<Metric> {
        let find = || (0..self.count()).map(|export| self.metrics(export)).find(|it| is_it(it));
        eventually(what, || find().is_some()).await;
        find().unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn find<'a>(metrics: &'a [Metric], name: &str) -> Option<&'a Metric> {
    metrics.iter().find(|metric| metric.name == name)
}

/// The points of a sum or a gauge.
pub(crate) fn points(metric: &Metric) -> &[NumberDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{other:?}"),
    }
}

/// The attributes of a point, as text.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.clone());
        let Some(Value::StringValue(text)) = value else { panic!("{attribute:?}") };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(pair).collect()
}

/// Whether a point has such an attribute.
pub(crate) fn has(point: &[KeyValue], key: &str, value: &str) -> bool {
    attributes(point).contains(&(key.to_owned(), value.to_owned()))
}
