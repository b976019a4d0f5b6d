//! A lock for each thing of a kind that is being changed (a container, a blob), which exists as long as somebody holds it or
//! waits for it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, Weak},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

type Map<K> = std::sync::Mutex<HashMap<K, Weak<Mutex<()>>>>;

/// The locks of all of a kind. Each is there only while it is used.
pub(super) struct KeyLocks<K: Eq + Hash>(Arc<Map<K>>);

impl<K: Eq + Hash> Default for KeyLocks<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A lock that is held.
pub(super) struct KeyGuard<K: Eq + Hash> {
    // Dropped before the place, by the order of the fields.
    _held: OwnedMutexGuard<()>,
    _place: Place<K>,
}

/// Somebody who holds a lock, or waits for it.
struct Place<K: Eq + Hash> {
    map: Arc<Map<K>>,
    key: K,
    lock: Weak<Mutex<()>>,
}

impl<K: Eq + Hash + Clone> KeyLocks<K> {
    /// Waits until nobody else holds the lock of this one.
    pub(super) async fn lock(&self, key: K) -> KeyGuard<K> {
        let lock = self.of(&key);
        let place = Place { map: Arc::clone(&self.0), key, lock: Arc::downgrade(&lock) };
        KeyGuard { _held: lock.lock_owned().await, _place: place }
    }

    fn of(&self, key: &K) -> Arc<Mutex<()>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = map.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        map.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
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

    use gantry_domain::{ContainerId, ContainerKey, Namespace};
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
