//! Takes over the containers of an earlier daemon: those that live, those that have ended since, and
//! what is left of others.

use std::{collections::HashSet, mem::ManuallyDrop, sync::Arc, time::SystemTime};

use gantry_client::{Restore, Restored};
use tokio::task::JoinSet;

use crate::{
    Daemon, Result,
    container::Container,
    daemon::{blocking, note},
    model::Status,
    restart,
    start::{Kept, Surroundings},
};

impl Daemon {
    /// Brings all records up to date, then starts what is to be started along with the daemon.
    pub(crate) async fn restore(&self) -> Result<()> {
        let state = self.client.state().await?;
        let living: HashSet<_> = state.containers.into_iter().map(|c| c.id).collect();
        let mut tasks = JoinSet::new();
        for container in self.host.store.all() {
            let (daemon, lives) = (self.clone(), living.contains(container.id()));
            tasks.spawn(async move {
                let _operation = container.operation.lock().await;
                if let Err(error) = daemon.take_up(&container, lives).await {
                    tracing::error!(container = container.id(), "not restored: {error:#}");
                }
            });
        }
        tasks.join_all().await;
        let daemon = self.clone();
        tokio::spawn(async move { daemon.start_along().await });
        Ok(())
    }

    async fn take_up(&self, container: &Arc<Container>, lives: bool) -> Result<()> {
        let (host, of) = (Arc::clone(&self.host), Arc::clone(container));
        let adopt = move || ManuallyDrop::new(Surroundings::adopt(&host, &of));
        let surroundings = blocking(adopt).await?;
        let status = container.record().state.status;
        if lives || status == Status::Running {
            return self.reattach(container, surroundings).await;
        }
        blocking(move || drop(ManuallyDrop::into_inner(surroundings))).await?;
        if status == Status::Removing {
            self.remove_and_log(container).await;
        }
        Ok(())
    }

    async fn reattach(&self, container: &Arc<Container>, surroundings: Kept) -> Result<()> {
        let (id, bundle) = (container.id(), container.bundle());
        match self.client.restore(id, &bundle, Restore::Reattach).await? {
            Restored::Running(process) => {
                let pid = process.init().pid().unwrap_or_default();
                note(container, move |record| {
                    let state = &mut record.state;
                    (state.status, state.pid) = (Status::Running, pid);
                    state.started.get_or_insert_with(SystemTime::now);
                })
                .await;
                self.watch_over(Arc::clone(container), process, surroundings);
            }
            Restored::Exited { exit, .. } => {
                self.ended(container, exit.status, surroundings).await;
            }
        }
        Ok(())
    }

    /// One after the other, oldest first: a container that has the network of another one is
    /// usually the younger.
    async fn start_along(&self) {
        for container in self.host.store.all() {
            let _operation = container.operation.lock().await;
            let record = container.record();
            let is_due = match record.state.status {
                Status::Restarting => true,
                Status::Exited => restart::starts_with_daemon(record.config.restart, &record.state),
                _ => false,
            };
            if is_due {
                note(&container, |record| record.state.stopped = false).await;
                // A failure is noted in the record.
                let _ = self.launch(&container, None).await;
            }
        }
    }
}
