//! Who works on what.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use gantry_domain::Namespace;

use crate::ContentError;

type Key = (Namespace, String);

/// Writes that a caller has. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct References(Arc<Mutex<HashMap<Key, Instant>>>);

/// A write that its holder has alone.
#[derive(Debug)]
pub(crate) struct Held {
    key: Key,
    all: References,
}

impl References {
    pub(crate) fn hold(
        &self,
        namespace: &Namespace,
        reference: &str,
    ) -> Result<Held, ContentError> {
        let key = (namespace.clone(), reference.to_owned());
        let mut all = self.lock();
        if let Some(since) = all.get(&key) {
            let reference = reference.to_owned();
            return Err(ContentError::Locked { reference, since: since.elapsed() });
        }
        all.insert(key.clone(), Instant::now());
        drop(all);
        Ok(Held { key, all: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

/// How many locks there are.
const SHARDS: usize = 64;

/// Locks for names of which there are any number: two names may have one lock, and wait for each other.
#[derive(Debug)]
pub(crate) struct Shards([tokio::sync::Mutex<()>; SHARDS]);

/// By number of the lock.
pub(crate) type Guards<'a> = HashMap<usize, tokio::sync::MutexGuard<'a, ()>>;

/// Names that are locked as long as their guards live, and those of which somebody else has the lock.
pub(crate) struct Locked<'a, T> {
    pub(crate) names: Vec<T>,
    pub(crate) busy: Vec<T>,
    pub(crate) guards: Guards<'a>,
}

impl Default for Shards {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::default()))
    }
}

impl Shards {
    pub(crate) async fn lock(&self, name: &impl Hash) -> tokio::sync::MutexGuard<'_, ()> {
        self.0[Self::of(name)].lock().await
    }

    /// Locks those of `names` that nobody has. If somebody has each of them, this waits for the first one: who waits has
    /// none of these locks, so that nobody waits longer because of that.
    pub(crate) async fn lock_free<T: Hash>(&self, names: Vec<T>) -> Locked<'_, T> {
        let mut guards = HashMap::new();
        self.lock_more(&names, &mut guards);
        if guards.is_empty()
            && let Some(first) = names.first()
        {
            guards.insert(Self::of(first), self.lock(first).await);
            self.lock_more(&names, &mut guards);
        }
        let is_locked = |name: &T| guards.contains_key(&Self::of(name));
        let (names, busy) = names.into_iter().partition(is_locked);
        Locked { names, busy, guards }
    }

    fn lock_more<'a>(&'a self, names: &[impl Hash], guards: &mut Guards<'a>) {
        for number in names.iter().map(Self::of) {
            if let Entry::Vacant(entry) = guards.entry(number)
                && let Ok(guard) = self.0[number].try_lock()
            {
                entry.insert(guard);
            }
        }
    }

    fn of(name: &impl Hash) -> usize {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_write_has_one_holder() {
        let references = References::default();
        let [a, b] = ["a", "b"].map(|name| Namespace::named(name).unwrap());
        let held = references.hold(&a, "r").unwrap();
        let refused = references.hold(&a, "r").unwrap_err().to_string();
        assert!(refused.starts_with("ref r locked for "), "{refused}");
        assert!(refused.ends_with(": unavailable"), "{refused}");
        drop((references.hold(&b, "r").unwrap(), references.hold(&a, "q").unwrap(), held));
        references.hold(&a, "r").unwrap();
    }

    /// Two names with a lock each, and one that has the first one's.
    fn names() -> [usize; 3] {
        let is_with = |a: usize| move |b: &usize| Shards::of(b) == Shards::of(&a);
        let other = (1..).find(|b| !is_with(0)(b)).unwrap();
        [0, other, (1..).find(is_with(0)).unwrap()]
    }

    #[tokio::test]
    async fn what_is_free_does_not_wait_for_what_is_not() {
        let shards = Shards::default();
        let [a, b, like_a] = names();
        let held = shards.lock(&a).await;
        let locked = shards.lock_free(vec![a, b, like_a]).await;
        assert_eq!((&*locked.names, &*locked.busy), (&[b][..], &[a, like_a][..]));
        drop(locked);
        let mut waiting = pin!(shards.lock_free(vec![a, like_a]));
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        drop(held);
        let locked = waiting.await;
        assert_eq!((&*locked.names, &*locked.busy), (&[a, like_a][..], &[][..]));
    }
}
