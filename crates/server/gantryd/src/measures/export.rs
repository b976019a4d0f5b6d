//! Sends metrics to the collector of telemetry, once an interval, on the thread that sends telemetry.
//!
//! What a collector does not take is dropped, and counted: the next export has the same counters and more. So a collector
//! that hangs or is away costs the server nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_client::MetricsServiceClient,
    },
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{Measures, metrics};
use crate::telemetry::Collector;

/// How long the last export may take when the server ends.
const LAST: Duration = Duration::from_millis(200);

/// Containers whose usage is sent in one message.
const IN_A_MESSAGE: usize = 500;

/// Exports of metrics since the start of the server.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// What is exported, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exported {
    pub(crate) interval: Duration,
    /// What each container uses, too.
    pub(crate) container_usage: bool,
}

/// Exports that go on until [`Exporter::finish`].
pub(crate) struct Exporter {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    /// Begins to send from `runtime`, after the first interval.
    pub(crate) fn start(
        measures: Measures,
        collector: &Collector,
        runtime: &Handle,
        exported: Exported,
    ) -> Self {
        let exports = measures.is_exported(collector.counts());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let sending = Sending { measures, collector: collector.apart(), exported, exports };
        runtime.spawn(async move {
            sending.until(stopped).await;
            drop(end);
        });
        Self { stop, ended }
    }

    /// Sends what is counted by now, if that can be done at once.
    pub(crate) async fn finish(self) {
        drop(self.stop);
        // The other end is dropped, which is an error.
        let _ = timeout(LAST, self.ended).await;
    }
}

struct Sending {
    measures: Measures,
    collector: Collector,
    exported: Exported,
    exports: Arc<Exports>,
}

impl Sending {
    async fn until(self, mut stop: oneshot::Receiver<()>) {
        let interval = self.exported.interval;
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = async {
                ticks.tick().await;
                self.export().await;
            };
            tokio::select! {
                biased;
                _ = &mut stop => break,
                () = next => {}
            }
        }
        self.export().await;
    }

    async fn export(&self) {
        let snapshot = self.measures.snapshot().await;
        self.send(metrics::of_server(&snapshot)).await;
        if !self.exported.container_usage {
            return;
        }
        let supervisor = self.measures.supervisor().await;
        for namespace in supervisor.namespaces() {
            for part in supervisor.containers(&namespace).chunks(IN_A_MESSAGE) {
                let used = supervisor.usage(part).await;
                if !used.is_empty() && !self.send(metrics::of_containers(&used)).await {
                    return;
                }
            }
        }
    }

    /// Whether the collector has answered that it has taken them, or some of them.
    async fn send(&self, metrics: Vec<Metric>) -> bool {
        let scope = InstrumentationScope {
            name: "gantryd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let of_server = ResourceMetrics {
            resource: Some(self.collector.resource()),
            scope_metrics: vec![metrics],
            ..ResourceMetrics::default()
        };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of_server] };
        let mut client = MetricsServiceClient::new(self.collector.channel());
        let sent = self.collector.attempt(client.export(self.collector.request(request))).await;
        let is_whole = sent.as_ref().is_ok_and(has_taken_all);
        let count = if is_whole { &self.exports.sent } else { &self.exports.dropped };
        count.fetch_add(1, Ordering::Relaxed);
        sent.is_ok()
    }
}

/// Whether a collector that has taken an export has kept all of it.
fn has_taken_all(answer: &ExportMetricsServiceResponse) -> bool {
    answer.partial_success.as_ref().is_none_or(|part| part.rejected_data_points == 0)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;

    use super::*;

    #[test]
    fn an_export_of_which_points_were_rejected_is_not_taken() {
        let with = |partial_success| ExportMetricsServiceResponse { partial_success };
        let rejected = |points| {
            let error_message = "about them".to_owned();
            with(Some(ExportMetricsPartialSuccess { rejected_data_points: points, error_message }))
        };
        // Without points it is a warning.
        assert!(has_taken_all(&with(None)) && has_taken_all(&rejected(0)));
        assert!(!has_taken_all(&rejected(1)));
    }
}
