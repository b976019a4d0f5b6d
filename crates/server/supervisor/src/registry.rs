//! Which task each container has.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gantry_domain::ContainerKey;

use crate::{SupervisorError, handle::ContainerHandle};

/// Which task a container has.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<ContainerKey, ContainerHandle>>);

impl Registry {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<ContainerKey, ContainerHandle>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id, or returns the container that has it.
    pub(crate) fn hold(&self, handle: &ContainerHandle) -> Result<(), ContainerHandle> {
        let mut containers = self.lock();
        if let Some(holder) = containers.get(&handle.key) {
            return Err(holder.clone());
        }
        containers.insert(handle.key.clone(), handle.clone());
        Ok(())
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
                Err(_) => return Err(SupervisorError::ContainerTaken(handle.key.id.clone())),
            }
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
