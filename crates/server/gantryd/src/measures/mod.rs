//! What the server does and needs, in numbers: gathered when somebody asks, for `gantry.v1.ServerService` and for the
//! collector of telemetry. Each part counts for itself, whether anybody asks or not.

mod process;

use std::{sync::Arc, time::SystemTime};

use gantry_disk::MeasuredThreads;
use gantry_events::MeasuredEvents;
use gantry_supervisor::SupervisorMeasures;
pub(crate) use process::MeasuredProcess;

use crate::{
    connection::{Connections, MeasuredConnections},
    rpc::{Calls, MeasuredCalls},
    services::{
        PendingMetadata, PendingSupervisor,
        containerd::{MeasuredCollections, Surface},
    },
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
    /// When the counters were zero.
    start: SystemTime,
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
        Self(Arc::new(Sources { calls, connections, supervisor, metadata, surface, start }))
    }

    /// What was counted by now. Waits until the containers of an earlier server are known, and for nothing else.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let Sources { calls, connections, supervisor, metadata, surface, start } = &*self.0;
        let supervisor = supervisor.wait().await;
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
            process: MeasuredProcess::read(),
        }
    }
}
