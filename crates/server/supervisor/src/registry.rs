//! Which task each container has.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gantry_domain::ContainerKey;

use crate::{
    SupervisorError,
    handle::ContainerHandle,
    idempotency::{IdempotencyKey, Repeated},
};

/// Which task a container has.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<ContainerKey, ContainerHandle>>);

impl Registry {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<ContainerKey, ContainerHandle>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id, or returns the container that has it, or its idempotency key.
    pub(crate) fn hold(&self, handle: &ContainerHandle) -> Result<(), ContainerHandle> {
        let mut containers = self.lock();
        if let Some(holder) = containers.get(&handle.key) {
            return Err(holder.clone());
        }
        if let Some(key) = &handle.idempotency
            && let Some(holder) = with_key(&containers, &handle.key, key)
        {
            return Err(holder.clone());
        }
        containers.insert(handle.key.clone(), handle.clone());
        Ok(())
    }

    /// What is known of a container has changed.
    pub(crate) fn update(&self, handle: &ContainerHandle) {
        if let Some(known) = self.lock().get_mut(&handle.key)
            && known.is_same(handle)
        {
            known.clone_from(handle);
        }
    }

    /// Whether a container is still the one with its id.
    pub(crate) fn has(&self, handle: &ContainerHandle) -> bool {
        self.lock().get(&handle.key).is_some_and(|known| known.is_same(handle))
    }

    /// Whether there is such a container.
    pub(crate) fn is_taken(&self, key: &ContainerKey) -> bool {
        self.lock().contains_key(key)
    }

    /// Takes an id, unless it is taken.
    pub(crate) fn reserve(&self, handle: &ContainerHandle) -> Result<(), SupervisorError> {
        self.hold(handle).map_err(|_| SupervisorError::ContainerTaken(handle.key.id.clone()))
    }

    /// Takes an id that is free. Waits for a half-made container that is being removed.
    pub(crate) async fn take(&self, handle: &ContainerHandle) -> Result<(), SupervisorError> {
        loop {
            match self.hold(handle) {
                Ok(()) => return Ok(()),
                Err(holder) if holder.half_made => holder.mailbox.closed().await,
                Err(holder) if holder.key != handle.key => {
                    return Err(SupervisorError::KeyTaken(holder.key.id.clone()));
                }
                Err(_) => return Err(SupervisorError::ContainerTaken(handle.key.id.clone())),
            }
        }
    }

    /// What was made of a request with this key for this container.
    pub(crate) fn repeated(
        &self,
        key: &ContainerKey,
        idempotency: &IdempotencyKey,
    ) -> Result<Repeated, SupervisorError> {
        let containers = self.lock();
        let Some(holder) = with_key(&containers, key, idempotency) else { return Ok(Repeated::No) };
        let is_same = holder.idempotency.as_deref() == Some(idempotency);
        match holder.key == *key && is_same {
            true => Ok(Repeated::Of(holder.clone())),
            false => Err(SupervisorError::KeyTaken(holder.key.id.clone())),
        }
    }

    /// Frees an id.
    pub(crate) fn release(&self, key: &ContainerKey) {
        self.release_after(key, || ());
    }

    /// Frees an id in one step with `last_word`, which publishes its last event. `last_word` must not block:
    /// the registry is locked.
    pub(crate) fn release_after(&self, key: &ContainerKey, last_word: impl FnOnce()) {
        let mut containers = self.lock();
        last_word();
        containers.remove(key);
        drop(containers);
        gantry_kernel::load_has_fallen();
    }
}

/// The container of a namespace that has a key: the one that is meant, or another one.
fn with_key<'a>(
    containers: &'a HashMap<ContainerKey, ContainerHandle>,
    key: &ContainerKey,
    idempotency: &IdempotencyKey,
) -> Option<&'a ContainerHandle> {
    let has_key = |holder: &&ContainerHandle| holder.has_key(&key.namespace, idempotency);
    containers.get(key).filter(has_key).or_else(|| containers.values().find(has_key))
}
