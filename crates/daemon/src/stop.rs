//! Ends containers, and removes them.

use std::{sync::Arc, time::Duration};

use gantry_client::Signal;
use tokio::time;

use crate::{
    Daemon, Error, Result,
    container::Container,
    daemon::{blocking, note},
    model::{Record, Status},
};

/// How long a container may take to end after SIGKILL; one that takes longer is stuck in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(10);

impl Daemon {
    /// Ends a container: its stop signal, and SIGKILL after the timeout. Its policy does not start
    /// it again. Nothing happens if it does not run.
    pub async fn stop(&self, reference: &str, timeout: Option<Duration>) -> Result<()> {
        let container = self.host.store.find(reference)?;
        if self.call_off(&container).await? {
            let config = container.record().config;
            let timeout = timeout.unwrap_or(config.stop_timeout);
            self.end(&container, config.stop_signal(), timeout).await?;
        }
        Ok(())
    }

    /// Removes a container with all its files; one that runs only with `force`, which kills it.
    pub async fn remove(&self, reference: &str, force: bool) -> Result<()> {
        let container = self.host.store.find(reference)?;
        let record = container.record();
        if !force && matches!(record.state.status, Status::Running | Status::Restarting) {
            return Err(record.wrong_state());
        }
        if record.state.status != Status::Dead && self.call_off(&container).await? {
            self.end(&container, Signal::KILL, KILL_GRACE).await?;
        }
        let _operation = container.operation.lock().await;
        let record = container.record();
        match record.state.status {
            // It has removed itself meanwhile.
            Status::Removing => Ok(()),
            Status::Running | Status::Restarting => Err(record.wrong_state()),
            Status::Created | Status::Exited | Status::Dead => self.clear(&container).await,
        }
    }

    /// Notes that the container is to stop, and cancels a restart. Returns whether the container runs.
    async fn call_off(&self, container: &Arc<Container>) -> Result<bool> {
        let _operation = container.operation.lock().await;
        let record = container.record();
        match record.state.status {
            Status::Removing | Status::Dead => return Err(record.wrong_state()),
            Status::Created | Status::Exited => return Ok(false),
            Status::Running | Status::Restarting => {}
        }
        note(container, |record| {
            record.state.stopped = true;
            if record.state.status == Status::Restarting {
                record.state.status = Status::Exited;
            }
        })
        .await;
        Ok(record.state.status == Status::Running)
    }

    async fn end(
        &self,
        container: &Arc<Container>,
        signal: Signal,
        timeout: Duration,
    ) -> Result<()> {
        let process = self.client.container(container.id());
        for (signal, patience) in [(signal, timeout), (Signal::KILL, KILL_GRACE)] {
            match process.signal(signal).await {
                Err(error) if !error.is_gone() => return Err(error.into()),
                _ => {}
            }
            let mut changes = container.subscribe();
            let ended = changes.wait_for(|record| record.state.status != Status::Running);
            if time::timeout(patience, ended).await.is_ok() {
                return Ok(());
            }
        }
        Err(Error::DoesNotEnd(container.id().to_owned()))
    }

    /// Removes a container that does not run and whose lock is held.
    async fn clear(&self, container: &Arc<Container>) -> Result<()> {
        note(container, |record| record.state.status = Status::Removing).await;
        self.unmount_all(container).await?;
        let (host, of) = (Arc::clone(&self.host), Arc::clone(container));
        let removed = blocking(move || host.store.remove(&of)).await?;
        if let Err(error) = &removed {
            let message = format!("{error:#}");
            note(container, move |record: &mut Record| {
                record.state.status = Status::Dead;
                record.state.error = message;
            })
            .await;
        }
        removed
    }

    /// Removes a container that asked to be removed at its end, and whose lock is held.
    pub(crate) async fn remove_and_log(&self, container: &Arc<Container>) {
        if let Err(error) = self.clear(container).await {
            tracing::error!(container = container.id(), %error, "not removed");
        }
    }
}
