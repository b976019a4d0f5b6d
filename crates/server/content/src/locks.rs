//! Who works on what.

use std::{
    collections::{BTreeSet, HashMap},
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

impl Default for Shards {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::default()))
    }
}

impl Shards {
    pub(crate) async fn lock(&self, name: &impl Hash) -> tokio::sync::MutexGuard<'_, ()> {
        self.0[Self::of(name)].lock().await
    }

    /// The locks of many names. Who has one of these locks already would wait for ever.
    pub(crate) async fn lock_all<T: Hash>(
        &self,
        names: &[T],
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let mut locked = Vec::new();
        // In one order for all.
        for number in names.iter().map(Self::of).collect::<BTreeSet<_>>() {
            locked.push(self.0[number].lock().await);
        }
        locked
    }

    fn of(name: &impl Hash) -> usize {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
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
}
