//! What happens when a container ends: its mounts and network are removed, and its policy may start it again.

use std::{
    mem::ManuallyDrop,
    sync::Arc,
    time::{Duration, SystemTime},
};

use gantry_api::EXIT_STATUS_UNKNOWN;
use tokio::time;

use crate::{
    Daemon,
    container::Container,
    daemon::{blocking, note},
    model::{Record, Status},
    restart,
    start::Kept,
};

impl Daemon {
    /// Waits in the background for the end of a container that was started, or found after a restart.
    pub(crate) fn watch_over(
        &self,
        container: Arc<Container>,
        process: gantry_client::Container,
        surroundings: Kept,
    ) {
        let daemon = self.clone();
        tokio::spawn(async move {
            let exit_code = match process.wait().await {
                Ok(exit) => exit.status,
                Err(error) => {
                    tracing::error!(container = container.id(), "exit status not known: {error:#}");
                    EXIT_STATUS_UNKNOWN
                }
            };
            let _operation = container.operation.lock().await;
            daemon.ended(&container, exit_code, surroundings).await;
        });
    }

    /// Cleans up after a container, whose lock is held, and decides what comes next.
    pub(crate) async fn ended(
        &self,
        container: &Arc<Container>,
        exit_code: u32,
        surroundings: Kept,
    ) {
        tracing::info!(container = container.id(), exit_code, "ended");
        let bundle = container.bundle();
        let cleared = blocking(move || {
            drop(ManuallyDrop::into_inner(surroundings));
            gantry_client::remove_bundle(&bundle)
        });
        if let Ok(Err(error)) = cleared.await {
            tracing::warn!(container = container.id(), "bundle not removed: {error:#}");
        }
        note(container, move |record| note_end(record, exit_code)).await;
        let record = container.record();
        if record.state.status == Status::Restarting {
            self.restart_later(Arc::clone(container), record.state.restart_delay);
        } else if record.config.auto_remove {
            self.remove_and_log(container).await;
        }
    }

    /// Starts a container again after a while, unless it is stopped or removed until then.
    pub(crate) fn restart_later(&self, container: Arc<Container>, delay: Duration) {
        let daemon = self.clone();
        tokio::spawn(async move {
            let mut changes = container.subscribe();
            let called_off = changes.wait_for(|record| record.state.status != Status::Restarting);
            if time::timeout(delay, called_off).await.is_ok() {
                return;
            }
            let _operation = container.operation.lock().await;
            if container.record().state.status != Status::Restarting {
                return;
            }
            note(&container, |record| record.state.restart_count += 1).await;
            // A failure is noted in the record.
            let _ = daemon.launch(&container, None).await;
        });
    }
}

fn note_end(record: &mut Record, exit_code: u32) {
    let now = SystemTime::now();
    let state = &mut record.state;
    (state.pid, state.exit_code, state.finished) = (0, exit_code, Some(now));
    let ran = state.started.and_then(|started| now.duration_since(started).ok());
    match restart::delay(record.config.restart, state, ran.unwrap_or_default()) {
        Some(delay) => (state.status, state.restart_delay) = (Status::Restarting, delay),
        None => state.status = Status::Exited,
    }
}
