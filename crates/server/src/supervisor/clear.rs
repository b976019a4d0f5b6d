//! The end of a container: what is left in it is killed, and nothing of it stays.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{Services, actor::Message, create::Identity};
use crate::{
    cgroup::{Cgroup, CgroupError, OomWatch},
    domain::ContainerId,
};

/// How long killed processes may take to be gone. A process that waits for a device that does not
/// answer (state D) cannot be killed; the container then ends without it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

impl Services {
    /// Kills what is left in a container whose first process has ended.
    pub(super) async fn kill_rest(&self, identity: &Identity, cgroup: Option<&Cgroup>) {
        if let Some(cgroup) = cgroup
            && let Err(error) = cgroup.kill_all(KILL_DEADLINE).await
        {
            let error = chain(&error);
            tracing::warn!(container = %identity.key, error, "cannot kill what is left");
        }
    }

    /// Removes the container from the runtime, and its cgroup.
    pub(super) async fn delete(&self, identity: &Identity, cgroup: Option<&Cgroup>) {
        let id = &identity.key.id;
        if let Err(error) = self.runtimes.delete(&identity.runtime, id).await {
            tracing::warn!(container = %identity.key, %error, "the runtime does not delete it");
        }
        let Some(cgroup) = cgroup else { return };
        self.kill_rest(identity, Some(cgroup)).await;
        match cgroup.remove() {
            Ok(()) | Err(CgroupError::Removed) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(container = %identity.key, error, "cannot remove its cgroup");
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Waits for out-of-memory kills of one container and tells its task.
pub(super) struct OomTask {
    watch: OomWatch,
}

/// An [`OomTask`] at work.
pub(super) struct RunningOomTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<OomWatch>,
}

impl OomTask {
    /// `seen` kills were told already. A container without a memory controller has no watch.
    pub(super) fn arm(id: &ContainerId, cgroup: &Cgroup, seen: u64) -> Option<Self> {
        match OomWatch::arm(cgroup, seen) {
            Ok(watch) => Some(Self { watch }),
            Err(error) => {
                // It may have ended already; the count is gone with its cgroup then.
                tracing::debug!(container = %id, error = chain(&error), "no out-of-memory watch");
                None
            }
        }
    }

    pub(super) fn run(self, mailbox: mpsc::Sender<Message>) -> RunningOomTask {
        let (stop, mut stopped) = oneshot::channel();
        let mut watch = self.watch;
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => return watch,
                    result = watch.next() => match result {
                        Ok(()) => {
                            let message = Message::OutOfMemory { kills: watch.seen() };
                            if mailbox.send(message).await.is_err() {
                                return watch;
                            }
                        }
                        Err(error) => {
                            tracing::debug!(error = chain(&error), "out-of-memory watch ended");
                            return watch;
                        }
                    },
                }
            }
        });
        RunningOomTask { stop, task }
    }
}

impl RunningOomTask {
    /// Ends the watch; how many kills there were, if there is one that was not told.
    pub(super) async fn finish(self) -> Option<u64> {
        // The task may have ended by itself.
        let _ = self.stop.send(());
        match self.task.await {
            Ok(mut watch) => watch.check().unwrap_or(false).then(|| watch.seen()),
            Err(_) => None,
        }
    }
}

/// What the end of a container's first process sets off, step by step: [`Message::Cleared`], then,
/// once every further process was reported, [`remove`].
pub(super) async fn clear(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
    oom: Option<RunningOomTask>,
) -> Message {
    services.kill_rest(&identity, cgroup.as_ref()).await;
    let out_of_memory = match oom {
        Some(oom) => oom.finish().await,
        None => None,
    };
    Message::Cleared { out_of_memory }
}

/// Removes the container itself.
pub(super) async fn remove(
    services: Arc<Services>,
    identity: Identity,
    cgroup: Option<Cgroup>,
) -> Message {
    services.delete(&identity, cgroup.as_ref()).await;
    Message::Removed
}
