//! What a keeper does: it inspects its container, ends a task, and makes another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_domain::{ContainerKey, Phase, ProcessId};
use gantry_store::{Container, StoreError};
use gantry_supervisor::{Caller, SupervisorError};
use tokio::time::timeout;
use tonic::Status;

use super::{
    labels::{COUNT, Wanted},
    plan::{End, Seen, Situation},
};
use crate::services::{
    containerd::{Surface, containers, snapshots, tasks},
    exit,
};

/// How long a killed task may take to end.
const END_DEADLINE: Duration = Duration::from_secs(30);

const SIGKILL: i32 = 9;

/// A task that was made.
pub(super) struct Restarted {
    /// Of its first process, on the host.
    pub(super) pid: u32,
    /// How often the container was restarted.
    pub(super) count: i64,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.message())]
    Refused(Status),
    #[error("its task does not end within {} s of a SIGKILL", END_DEADLINE.as_secs())]
    Endless,
}

impl Failure {
    /// Whether the server is stopping, and the next one looks after the container.
    pub(super) fn is_of_the_end(&self) -> bool {
        matches!(
            self,
            Self::Supervisor(SupervisorError::Draining) | Self::Store(StoreError::Closed)
        )
    }
}

/// A container and where its task is; none if there is no such container.
pub(super) async fn inspect(
    surface: &Surface,
    key: &ContainerKey,
) -> Result<Option<(Container, Situation)>, StoreError> {
    let store = surface.store().await;
    let container = match store.container(&key.namespace, key.id.as_str()).await {
        Err(StoreError::NotFound(_)) => return Ok(None),
        other => other?,
    };
    let supervisor = surface.supervisor().await;
    let Ok(task) = supervisor.container(key.namespace.clone(), key.id.clone()) else {
        return Ok(Some((container, Situation::NoTask)));
    };
    let situation = match task.view().await {
        Ok(view) => of_phase(view.phase),
        Err(SupervisorError::ContainerNotFound(_)) => Situation::NoTask,
        // Too many requests wait for its task; an event will follow.
        Err(_) => Situation::Starting,
    };
    Ok(Some((container, situation)))
}

fn of_phase(phase: Phase) -> Situation {
    match phase {
        Phase::Starting => Situation::Starting,
        Phase::Created => Situation::Created,
        Phase::Running => Situation::Running,
        Phase::Paused => Situation::Paused,
        Phase::Stopped(end) => Situation::Stopped(End {
            status: exit::status(end.status),
            at: UNIX_EPOCH + Duration::from_nanos(end.at.0),
        }),
    }
}

/// Makes and starts a new task in place of the old one, and counts that; `None` if the container has changed
/// since it was seen. `updated_at` is updated when the metadata are.
///
/// After an error there may be no task any more.
pub(super) async fn restart(
    surface: &Surface,
    key: &ContainerKey,
    seen: &Seen,
    updated_at: &mut Option<SystemTime>,
) -> Result<Option<Restarted>, Failure> {
    let (namespace, id) = (&key.namespace, &key.id);
    // Whoever creates a task or deletes the container waits meanwhile.
    let held = surface.lock(namespace, id).await;
    let Some((container, situation)) = inspect(surface, key).await? else { return Ok(None) };
    let Some(wanted) = Wanted::of(&container.labels) else { return Ok(None) };
    if container.updated_at != seen.updated_at || situation != seen.situation {
        return Ok(None);
    }
    *updated_at = Some(seen.updated_at);
    let rootfs = snapshots::rootfs(surface, namespace, &container).await;
    let rootfs = rootfs.map_err(Failure::Refused)?;
    let new = tasks::restarted(container, id.clone(), rootfs, wanted.log.as_deref());
    let new = new.map_err(Failure::Refused)?;
    let count = wanted.next_count();
    *updated_at = Some(note(surface, key, count).await?);
    end(surface, key).await?;
    let supervisor = surface.supervisor().await;
    supervisor.create_task(namespace.clone(), new).await?;
    drop(held);
    let task = supervisor.container(namespace.clone(), id.clone())?;
    match supervisor.start_process(&task, ProcessId::init(), Caller::default()).await {
        Ok(pid) => Ok(Some(Restarted { pid, count })),
        Err(error) => {
            // A task that was never started would not show why: it is removed.
            if let Err(error) = end(surface, key).await {
                tracing::warn!(container = %key, %error, "its task, which did not start, is left");
            }
            Err(error.into())
        }
    }
}

/// Writes how often a container was restarted into its labels; returns their time.
async fn note(surface: &Surface, key: &ContainerKey, count: i64) -> Result<SystemTime, StoreError> {
    let labels = [(COUNT.to_owned(), count.to_string())].into();
    let change = Container { id: key.id.to_string(), labels, ..Container::default() };
    let mask = vec![format!("labels.{COUNT}")];
    let updated = surface.store().await.update_container(&key.namespace, change, mask).await?;
    containers::publish_update(surface, &key.namespace, &updated).await;
    Ok(updated.updated_at)
}

/// Ends a container's task and deletes it. There may be none.
pub(super) async fn end(surface: &Surface, key: &ContainerKey) -> Result<(), Failure> {
    let supervisor = surface.supervisor().await;
    let Ok(task) = supervisor.container(key.namespace.clone(), key.id.clone()) else {
        return Ok(());
    };
    let ended = async {
        // The task may have ended, which the wait below finds out; if it lives and cannot be killed, the wait times out.
        if let Err(error) = task.signal_all(SIGKILL).await {
            tracing::debug!(container = %key, %error, "its task is not killed");
        }
        timeout(END_DEADLINE, task.wait(ProcessId::init()))
            .await
            .map_err(|_| Failure::Endless)??;
        task.delete(ProcessId::init()).await?;
        Ok(())
    };
    match ended.await {
        // Somebody else has deleted it.
        Err(Failure::Supervisor(SupervisorError::ContainerNotFound(_))) => Ok(()),
        other => other,
    }
}
