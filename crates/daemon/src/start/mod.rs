//! The start path: from a container of the store to a running program.
//!
//! Each step returns a guard that undoes it when it is dropped. So if a step fails, all
//! before it are undone in reverse order. The guards of a running container are kept and
//! dropped at its end.

mod create;
mod files;
mod hosts;
pub(crate) mod mount;
mod network;
mod spec;

use std::{
    mem::ManuallyDrop,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use create::Checkpoint;
use files::WrittenFiles;
use gantry_client::oci_spec::runtime::Spec;
use mount::RootMount;
use network::Connection;
pub(crate) use spec::parse_capabilities;

use crate::{
    Daemon, Error, Result,
    container::Container,
    daemon::{blocking, note},
    host::Host,
    model::Status,
};

/// What a container needs beside its process. Dropping this removes it, from top to bottom.
#[derive(Debug)]
pub(crate) struct Surroundings {
    _files: WrittenFiles,
    _network: Connection,
    _root: RootMount,
}

/// The surroundings of a container that runs, which stay when the daemon ends.
pub(crate) type Kept = ManuallyDrop<Surroundings>;

impl Surroundings {
    /// Makes all that is needed before the runtime is called.
    fn make(host: &Arc<Host>, container: &Arc<Container>) -> Result<(Spec, Surroundings)> {
        let root = mount::mount(host, container)?;
        let network = network::connect(host, container)?;
        container.update(|record| {
            record.state.identity = network.identity.clone();
            record.state.files = files::directory(container, &network.files);
        })?;
        let files = files::write(host, container, &network.files)?;
        let spec = spec::build(
            &container.record(),
            &spec::Parts {
                root: root.path(),
                namespace: &network.namespace,
                cgroup_parent: &host.options.cgroup_parent,
            },
        )?;
        Ok((spec, Surroundings { _files: files, _network: network, _root: root }))
    }

    /// Takes over what an earlier daemon has made, or what is left of that.
    pub(crate) fn adopt(host: &Arc<Host>, container: &Arc<Container>) -> Surroundings {
        let root = mount::adopt(host, container);
        let network = network::adopt(host, container);
        let files = files::adopt(container);
        Surroundings { _files: files, _network: network, _root: root }
    }
}

impl Daemon {
    /// Starts a container and returns once its program runs; nothing happens if it runs already.
    ///
    /// # Errors
    /// Everything is as before, and the container keeps the error and an exit code.
    pub async fn start(&self, reference: &str, checkpoint: Option<Checkpoint>) -> Result<()> {
        let container = self.host.store.find(reference)?;
        let daemon = self.clone();
        // A task of its own: a caller that goes away does not stop it half-way.
        let start = async move { daemon.start_found(&container, checkpoint).await };
        tokio::spawn(start).await?
    }

    async fn start_found(
        &self,
        container: &Arc<Container>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<()> {
        let _operation = container.operation.lock().await;
        let record = container.record();
        match record.state.status {
            Status::Running | Status::Restarting => return Ok(()),
            Status::Removing | Status::Dead => return Err(record.wrong_state()),
            Status::Created | Status::Exited => {}
        }
        note(container, |record| {
            record.state.restart_count = 0;
            record.state.restart_delay = Duration::ZERO;
            record.state.stopped = false;
        })
        .await;
        self.launch(container, checkpoint).await
    }

    /// Starts a container whose lock is held.
    pub(crate) async fn launch(
        &self,
        container: &Arc<Container>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<()> {
        match self.take_steps(container, checkpoint).await {
            Ok((process, surroundings)) => {
                let pid = process.init().pid().unwrap_or_default();
                note(container, move |record| {
                    let state = &mut record.state;
                    (state.status, state.pid) = (Status::Running, pid);
                    (state.exit_code, state.error) = (0, String::new());
                    state.started = Some(SystemTime::now());
                })
                .await;
                self.watch_over(Arc::clone(container), process, surroundings);
                Ok(())
            }
            Err(error) => {
                self.note_failure(container, &error).await;
                Err(error)
            }
        }
    }

    async fn take_steps(
        &self,
        container: &Arc<Container>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<(gantry_client::Container, Kept)> {
        let (host, of) = (Arc::clone(&self.host), Arc::clone(container));
        let (spec, made) = blocking(move || Surroundings::make(&host, &of)).await??;
        match create::create(&self.client, container, spec, checkpoint).await {
            Ok(process) => Ok((process, ManuallyDrop::new(made))),
            Err(error) => {
                blocking(move || drop(made)).await?;
                Err(error)
            }
        }
    }

    async fn note_failure(&self, container: &Arc<Container>, error: &Error) {
        tracing::warn!(container = container.id(), "not started: {error:#}");
        let (exit_code, message) = (error.start_exit_code(), format!("{error:#}"));
        note(container, move |record| {
            let state = &mut record.state;
            state.status = if state.started.is_some() { Status::Exited } else { Status::Created };
            (state.exit_code, state.error) = (exit_code, message);
            state.finished = Some(SystemTime::now());
        })
        .await;
        if container.record().config.auto_remove {
            self.remove_and_log(container).await;
        }
    }
}
