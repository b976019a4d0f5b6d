//! What the server does and needs, in numbers: gathered when somebody asks, for `gantry.v1.ServerService` and for the
//! collector of telemetry. Each part counts for itself, whether anybody asks or not.

mod export;
mod metrics;
mod points;
mod process;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::SystemTime,
};

pub(crate) use export::{Exported, Exporter, Exports};

use gantry_disk::MeasuredThreads;
use gantry_events::MeasuredEvents;
use gantry_supervisor::{Supervisor, SupervisorMeasures};
pub(crate) use process::MeasuredProcess;

use crate::{
    connection::{Connections, MeasuredConnections},
    rpc::{Calls, MeasuredCalls},
    services::{
        PendingMetadata, PendingSupervisor,
        containerd::{MeasuredCollections, Surface},
    },
    telemetry::Counts,
};

/// Where numbers come from. Clones are the same.
#[derive(Clone)]
pub(crate) struct Measures(Arc<Sources>);

struct Sources {
    calls: Arc<Calls>,
    connections: Connections,
    supervisor: PendingSupervisor,
    metadata: PendingMetadata,
    surface: Surface,
    process: process::LastReading,
    /// When the counters were zero.
    start: SystemTime,
    /// What has become of telemetry, if there is a collector.
    exported: OnceLock<(Arc<Counts>, Arc<Exports>)>,
}

/// What has become of telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MeasuredExports {
    pub(crate) spans: u64,
    pub(crate) dropped_spans: u64,
    pub(crate) metric_exports: u64,
    pub(crate) failed_metric_exports: u64,
}

/// What was counted up to a moment. Counters never fall.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) time: SystemTime,
    pub(crate) start: SystemTime,
    pub(crate) calls: Vec<MeasuredCalls>,
    pub(crate) calls_under_way: u64,
    pub(crate) connections: MeasuredConnections,
    pub(crate) supervisor: SupervisorMeasures,
    pub(crate) events: MeasuredEvents,
    /// None until it is open, as with `snapshots`.
    pub(crate) content: Option<MeasuredThreads>,
    pub(crate) snapshots: Option<MeasuredThreads>,
    pub(crate) collections: MeasuredCollections,
    pub(crate) process: MeasuredProcess,
    /// None without a collector.
    pub(crate) exported: Option<MeasuredExports>,
}

impl Measures {
    pub(crate) fn new(
        calls: Arc<Calls>,
        connections: Connections,
        supervisor: PendingSupervisor,
        metadata: PendingMetadata,
        surface: Surface,
    ) -> Self {
        let start = SystemTime::now();
        Self(Arc::new(Sources {
            calls,
            connections,
            supervisor,
            metadata,
            surface,
            process: process::LastReading::default(),
            start,
            exported: OnceLock::new(),
        }))
    }

    /// There is a collector, and this is what is counted for it.
    fn is_exported(&self, counts: &Arc<Counts>) -> Arc<Exports> {
        let new = || (Arc::clone(counts), Arc::default());
        Arc::clone(&self.0.exported.get_or_init(new).1)
    }

    async fn supervisor(&self) -> &Supervisor {
        self.0.supervisor.wait().await
    }

    fn exported(&self) -> Option<MeasuredExports> {
        let (counts, exports) = self.0.exported.get()?;
        Some(MeasuredExports {
            spans: counts.sent_spans.load(Ordering::Relaxed),
            dropped_spans: counts.dropped_spans.load(Ordering::Relaxed),
            metric_exports: exports.sent.load(Ordering::Relaxed),
            failed_metric_exports: exports.dropped.load(Ordering::Relaxed),
        })
    }

    /// What was counted by now. Waits until the containers of an earlier server are known, and for a thread that reads
    /// /proc; the numbers of the process may be a moment old.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let Sources { calls, connections, metadata, surface, process, start, .. } = &*self.0;
        let supervisor = self.supervisor().await;
        let process = process.get(supervisor.disks()).await;
        let metadata = metadata.get();
        Snapshot {
            time: SystemTime::now(),
            start: *start,
            calls: calls.read(),
            calls_under_way: calls.under_way(),
            connections: connections.measure(),
            supervisor: supervisor.measure(),
            events: supervisor.events().measure(),
            content: metadata.and_then(|metadata| metadata.content_threads()),
            snapshots: metadata.and_then(|metadata| metadata.snapshots_threads()),
            collections: surface.measure_collections(),
            process,
            exported: self.exported(),
        }
    }
}
