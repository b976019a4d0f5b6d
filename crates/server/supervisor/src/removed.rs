//! Containers that an earlier server had set aside: they have ended, and their ids are free.

use std::sync::Arc;

use gantry_domain::{ContainerKey, ProcessId};
use gantry_events::NewEvent;
use gantry_failpoints::{Point, reach};
use gantry_kernel::until_answered;
use gantry_runtime::OciRuntime;

use crate::{
    Services,
    create::Identity,
    ownership::Seen,
    remains::Over,
    state_dir::{ContainerDir, ContainerRecord, ProcessDir, TaskBundle},
};

/// Whether the last event of a container that was set aside is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndJournalled {
    Yes,
    /// To be looked up in the journal.
    Unknown,
}

impl Services {
    /// Publishes the last event of a container if an earlier server did not; returns what may remain of it.
    pub(crate) async fn report_removed(
        self: &Arc<Self>,
        dir: ContainerDir,
        journalled: EndJournalled,
    ) -> Option<Over> {
        let read = || async {
            let this = Arc::clone(self);
            match dir.run(move |dir, wait| this.read_removed(dir, wait)).await {
                Err(error) if error.is_scarce() => Err(error),
                other => Ok(other),
            }
        };
        let (record, unpublished) = match until_answered("read the end of a container", read).await
        {
            Ok(Some(read)) => read,
            Err(error) if error.damaged_file().is_none() => {
                tracing::error!(%error, "the end of a container cannot be read; a later start tries again");
                return None;
            }
            other => {
                if let Err(error) = other {
                    tracing::error!(%error, "the end of a container cannot be read");
                }
                dir.discard().await;
                return None;
            }
        };
        let key = record.key();
        let generation = record.generation;
        let journalled = match unpublished {
            Some(event) if journalled == EndJournalled::Unknown => {
                let labels = record.event_labels();
                let new = NewEvent { container: key.clone(), generation, labels, kind: event };
                let durable = self.events.append(new).await.durable;
                reach(Point::ServerMissedExitJournalled);
                durable
            }
            _ => true,
        };
        let runtime = self.runtime_or_missing(&key, &record);
        let bundle = self.own_bundle(&key, record.retention, record.restore.as_ref());
        let runtime = runtime.in_bundle(bundle.as_ref().map(TaskBundle::path));
        let identity = Identity { key, generation, dir, runtime, seen: Seen::default(), bundle };
        let init = identity.dir.process(&ProcessId::init());
        // Unless it is known that its start was not published, it has ended.
        let ended = init.run(ProcessDir::is_journalled).await.unwrap_or(true);
        Some(Over { identity, record, ended, journalled, deleted: false })
    }

    /// The container's runtime. While the binary is missing, processes are still watched; it may return.
    pub(crate) fn runtime_or_missing(
        &self,
        key: &ContainerKey,
        record: &ContainerRecord,
    ) -> OciRuntime {
        self.runtime_of(record).unwrap_or_else(|error| {
            tracing::error!(container = %key, %error, "its runtime is missing");
            OciRuntime::missing(&record.runtime, &record.runtime_args)
        })
    }
}
