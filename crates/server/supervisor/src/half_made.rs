//! Removes what an earlier server left half made: its start was never published.

use std::time::Duration;

use gantry_domain::ProcessId;
use gantry_failpoints::{Point, reach};
use gantry_shim_proto::ToShim;
use tokio::time::timeout;

use crate::{
    actor::Actor,
    find::{Found, find},
    kill::Freezer,
    ownership::Claim,
    state_dir::{ContainerRecord, ProcessDir},
};

/// How long a killed process may take to end.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

impl Actor {
    /// Removes a container whose start was not published; its caller may try again.
    pub(crate) async fn discard(self, record: ContainerRecord) {
        let dir = self.identity.dir.process(&ProcessId::init());
        let freezer = Freezer { init: true, ..self.services.freezer(&record) };
        end(find(&dir).await, freezer).await;
        reach(Point::ServerHalfMadeKilled);
        let claim = Claim::Failed { record: &record, taken: false };
        let deleted = self.services.delete(&self.identity, record.cgroup.as_ref(), claim).await;
        let deleted =
            deleted.or_else(|error| if error.is_anothers() { Ok(()) } else { Err(error) });
        reach(Point::ServerHalfMadeDeleted);
        self.services.abandon(&self.identity, &record, deleted.is_ok()).await;
        reach(Point::ServerHalfMadeRemoved);
        self.services.registry.release(&self.identity.key);
    }
}

/// Ends a process whose start was not published. A shim that still launches one gives up when it finds
/// its connection closed.
pub(crate) async fn end(found: Found, freezer: Freezer) {
    let Found::Running(process) = found else { return };
    freezer.kill(process.pid, &process.pidfd);
    if timeout(KILL_DEADLINE, process.pidfd.exited()).await.is_err() {
        tracing::warn!(pid = process.pid, "a process does not end, though it was killed");
    }
    if let Some(link) = process.link {
        let _ = link.send(&ToShim::Ack);
    }
}

pub(crate) async fn discard_exec(dir: &ProcessDir, found: Found, freezer: Freezer) {
    end(found, freezer).await;
    dir.discard().await;
}
