//! The restart monitor: starts and stops tasks as the labels of their containers ask for.
//!
//! Labels that begin with `containerd.io/restart.` are those of containerd's monitor, which nerdctl's `--restart`
//! sets. Where that one checks all containers every ten seconds, each container here has a [`Keeper`], which is
//! woken by events: a restart comes 200 ms after the first end, and after growing pauses when a container ends
//! again and again. A container that was created or changed, or whose task somebody has deleted, is left to its
//! clients for ten seconds.

mod acts;
mod keeper;
mod labels;
mod pauses;
mod plan;

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    sync::Arc,
    time::Duration,
};

use gantry_api::containerd::{
    event_types::{ContainerCreate, ContainerDelete, ContainerUpdate},
    from_any, topic,
};
use gantry_domain::{ContainerId, ContainerKey, Event, EventKind};
use gantry_events::{Entry, Published};
use gantry_store::{StoreError, filter::Filters};
use keeper::{Keeper, Signal};
pub(super) use labels::POLICIES;
use labels::STATUS;
use prost_types::Any;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::Surface;

/// So many containers are restarted at once. The others wait here, as they would time out waiting for the
/// supervisor's turns.
const RESTARTS_AT_ONCE: usize = 16;

/// After which time to list the containers again if that fails.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The keepers of all containers that have such labels.
struct Monitor {
    surface: Surface,
    signals: HashMap<ContainerKey, Arc<Signal>>,
    keepers: JoinSet<ContainerKey>,
    restarts: Arc<Semaphore>,
}

/// Looks after all containers, as long as the server runs.
pub(super) async fn watch(surface: Surface) {
    let mut monitor = Monitor {
        surface: surface.clone(),
        signals: HashMap::new(),
        keepers: JoinSet::new(),
        restarts: Arc::new(Semaphore::new(RESTARTS_AT_ONCE)),
    };
    // Before the containers are listed, so that none is missed. No event counts as received by the monitor.
    let mut follower = surface.supervisor().await.events().follow(|_| false);
    monitor.check_all(true).await;
    loop {
        tokio::select! {
            batch = follower.next() => match batch {
                Ok(batch) => batch.iter().for_each(|entry| monitor.observe(entry)),
                Err(error) => {
                    tracing::warn!(%error, "the restart monitor checks all containers again");
                    monitor.check_all(false).await;
                }
            },
            Some(ended) = monitor.keepers.join_next() => monitor.ended(ended),
        }
        yield_now().await;
    }
}

impl Monitor {
    /// Wakes the keeper that an event concerns.
    fn observe(&mut self, entry: &Entry) {
        match entry {
            Entry::Container(event) if is_of_a_task(event) => {
                // One without a keeper has no such labels.
                if let Some(signal) = self.signals.get(&event.container) {
                    signal.notify();
                }
            }
            Entry::Container(_) => {}
            Entry::Published(published) => {
                if let Some(key) = of_metadata(published) {
                    self.notify(key, false);
                }
            }
        }
    }

    /// Has the keeper of a container inspect it; there may be none yet.
    fn notify(&mut self, key: ContainerKey, first: bool) {
        match self.signals.entry(key) {
            Place::Occupied(place) => place.get().notify(),
            Place::Vacant(place) => {
                let (key, signal) = (place.key().clone(), Arc::<Signal>::default());
                place.insert(Arc::clone(&signal));
                let restarts = Arc::clone(&self.restarts);
                let surface = self.surface.clone();
                let keeper = Keeper::new(surface, key.clone(), signal, restarts, first);
                self.keepers.spawn(async move {
                    keeper.run().await;
                    key
                });
            }
        }
    }

    /// A keeper has ended, as it had nothing to do any more; unless it was woken after its last look, it is forgotten.
    fn ended(&mut self, ended: Result<ContainerKey, tokio::task::JoinError>) {
        match ended {
            Ok(key) => {
                let pending = self.signals.remove(&key).is_some_and(|signal| signal.is_pending());
                if pending {
                    self.notify(key, false);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a container is not restarted any more: its keeper has ended");
            }
        }
    }

    /// `first` says that the server has just started.
    async fn check_all(&mut self, first: bool) {
        while let Err(error) = self.list(first).await {
            if matches!(error, StoreError::Closed) {
                return;
            }
            tracing::warn!(
                %error, again_after = ?RETRY_AFTER,
                "the containers that are to be restarted cannot be listed",
            );
            sleep(RETRY_AFTER).await;
        }
    }

    async fn list(&mut self, first: bool) -> Result<(), StoreError> {
        let store = self.surface.store().await;
        let filters = Filters::parse(&[format!("labels.{STATUS:?}")])?;
        for (namespace, _) in store.namespaces().await? {
            let mut after = None;
            loop {
                let page = store.container_page(&namespace, &filters, after.take()).await?;
                for container in &page.containers {
                    // Tasks have valid ids only.
                    let Ok(id) = ContainerId::parse(&container.id) else { continue };
                    // Callers of this server may be at work already.
                    let is_earlier = container.updated_at < self.surface.0.began;
                    let key = ContainerKey { namespace: namespace.clone(), id };
                    self.notify(key, first && is_earlier);
                }
                match page.after {
                    Some(_) => after = page.after,
                    None => break,
                }
            }
        }
        Ok(())
    }
}

/// Whether the state of a container's task may have changed with the event.
fn is_of_a_task(event: &Event) -> bool {
    match &event.kind {
        EventKind::Created(_)
        | EventKind::ContainerStarted { .. }
        | EventKind::Paused
        | EventKind::Resumed
        | EventKind::Deleted { .. } => true,
        EventKind::Exited { process, .. } => process.is_init(),
        EventKind::ProcessAdded { .. }
        | EventKind::ProcessStarted { .. }
        | EventKind::OutOfMemory
        | EventKind::Checkpointed { .. } => false,
    }
}

/// The container whose metadata the event says were changed. Clients can publish such events, which only cause a check.
fn of_metadata(published: &Published) -> Option<ContainerKey> {
    let publication = &published.publication;
    // Copied only for the topics below: most events have others.
    let event = || Any { type_url: publication.type_url.clone(), value: publication.value.clone() };
    let id = match publication.topic.as_str() {
        topic::CONTAINER_CREATE => from_any::<ContainerCreate>(&event()).ok()??.id,
        topic::CONTAINER_UPDATE => from_any::<ContainerUpdate>(&event()).ok()??.id,
        topic::CONTAINER_DELETE => from_any::<ContainerDelete>(&event()).ok()??.id,
        _ => return None,
    };
    let id = ContainerId::parse(&id).ok()?;
    Some(ContainerKey { namespace: publication.namespace.clone(), id })
}
