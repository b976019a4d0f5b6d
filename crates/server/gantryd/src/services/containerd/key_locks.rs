//! A lock for each container that is being changed, which exists as long as somebody holds it or waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
};

use gantry_domain::ContainerKey;
use tokio::sync::{Mutex, OwnedMutexGuard};

type Map = std::sync::Mutex<HashMap<ContainerKey, Weak<Mutex<()>>>>;

/// The locks of all containers. Each is there only while it is used.
#[derive(Default)]
pub(super) struct KeyLocks(Arc<Map>);

/// A lock that is held.
pub(super) struct KeyGuard {
    // Dropped before the place, by the order of the fields.
    _held: OwnedMutexGuard<()>,
    _place: Place,
}

/// Somebody who holds a lock, or waits for it.
struct Place {
    map: Arc<Map>,
    key: ContainerKey,
    lock: Weak<Mutex<()>>,
}

impl KeyLocks {
    /// Waits until nobody else holds the lock of this container.
    pub(super) async fn lock(&self, key: ContainerKey) -> KeyGuard {
        let lock = self.of(&key);
        let place = Place { map: Arc::clone(&self.0), key, lock: Arc::downgrade(&lock) };
        KeyGuard { _held: lock.lock_owned().await, _place: place }
    }

    fn of(&self, key: &ContainerKey) -> Arc<Mutex<()>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = map.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        map.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        // A later caller finds no lock, and makes another: nobody holds this one any more.
        if self.lock.strong_count() == 0
            && map.get(&self.key).is_some_and(|lock| lock.ptr_eq(&self.lock))
        {
            map.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_domain::{ContainerId, Namespace};
    use tokio::time::timeout;

    use super::*;

    fn key(id: &str) -> ContainerKey {
        ContainerKey {
            namespace: Namespace::named("n").unwrap(),
            id: ContainerId::parse(id).unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_of_one_container_and_goes_with_its_last_user() {
        let locks = KeyLocks::default();
        let first = locks.lock(key("a")).await;
        let _other = locks.lock(key("b")).await;
        // A waiter that gives up.
        assert!(timeout(Duration::from_secs(1), locks.lock(key("a"))).await.is_err());
        let mut waiting = Box::pin(locks.lock(key("a")));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(first);
        drop(waiting.await);
        assert_eq!(locks.0.lock().unwrap().keys().collect::<Vec<_>>(), [&key("b")]);
        drop(locks.lock(key("a")).await);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_last_leaves_nothing() {
        let locks = KeyLocks::default();
        let first = locks.lock(key("a")).await;
        let mut waiting = Box::pin(locks.lock(key("a")));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(first);
        drop(waiting);
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
