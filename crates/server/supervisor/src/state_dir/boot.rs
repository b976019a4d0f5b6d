//! Which boot the state is of, and what does not outlive one.

use std::path::PathBuf;

use gantry_disk::MayWait;
use gantry_domain::Namespace;

use super::{
    ContainerDir, StateDir, StateError,
    bundle::BUNDLES,
    file::{list, read_json, write_json},
};

const FILE: &str = "boot.json";

impl StateDir {
    /// The boot that the state is of; `None` if that was not noted.
    pub(crate) fn boot(&self, _: &MayWait) -> Result<Option<String>, StateError> {
        match read_json(&self.root.join(FILE)) {
            Err(error) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    pub(crate) fn note_boot(&self, id: &str, _: &MayWait) -> Result<(), StateError> {
        write_json(&self.root.join(FILE), &id, self.access.sync)
    }

    /// Where the bundles of tasks are.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.root.join(BUNDLES)
    }

    /// Discards everything of tasks, of which nothing may run or be mounted; how many there were. The files are
    /// removed later, see [`Self::keep_trash_empty`].
    pub(crate) fn discard_tasks(&self, wait: &MayWait) -> Result<usize, StateError> {
        let mut tasks = 0;
        let containers = self.root.join("containers");
        for name in list(&containers)? {
            let Some(namespace) = Namespace::from_record(&name) else { continue };
            if !namespace.is_types_api() {
                tasks += list(&containers.join(&name))?.len();
                self.access.trash.take_large(&containers.join(&name))?;
            }
        }
        for dir in self.removed(wait)?.into_iter().chain(self.remains(wait)?) {
            if is_of_a_task(&dir, wait) {
                dir.remove(wait)?;
            }
        }
        self.access.trash.take_large(&self.bundles())?;
        self.access.trash.take_large(&self.runtime_root())?;
        Ok(tasks)
    }
}

/// A record that cannot be read is left to reattachment, which reports it.
fn is_of_a_task(dir: &ContainerDir, wait: &MayWait) -> bool {
    dir.read(wait).is_ok_and(|record| !record.key().namespace.is_types_api())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use gantry_domain::{ContainerId, ContainerKey, Generation};

    use super::*;
    use crate::state_dir::ContainerRecord;

    fn key(namespace: Namespace, id: &str) -> ContainerKey {
        ContainerKey { namespace, id: ContainerId::parse(id).unwrap() }
    }

    #[tokio::test]
    async fn tasks_go_and_containers_of_the_other_api_stay() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path()).unwrap();
        let root = root.path().to_owned();
        state.run(move |state, wait| check(state, &root, wait)).await;
    }

    fn check(state: &StateDir, root: &Path, wait: &MayWait) {
        let named = || Namespace::named("moby").unwrap();
        let mut kept = Vec::new();
        for (generation, namespace) in [(1, named()), (2, Namespace::TYPES_API)] {
            for id in ["runs", "over", "remains"] {
                let generation = Generation(10 * generation + id.len() as u64);
                let key = key(namespace.clone(), id);
                let dir = state.container(&key);
                dir.create(&ContainerRecord::new(&key, generation, PathBuf::new()), wait).unwrap();
                let dir = match id {
                    "runs" => dir,
                    "over" => state.set_aside(&dir, Generation(generation.0 + 100), wait).unwrap(),
                    _ => state.keep_remains(&dir, generation, wait).unwrap(),
                };
                if namespace.is_types_api() {
                    kept.push(dir);
                }
            }
        }
        let bundle = state.bundle(&key(named(), "runs"), None);
        bundle.create(b"{}", wait).unwrap();
        fs::create_dir_all(state.runtime_root().join("moby/runs")).unwrap();
        assert_eq!(state.boot(wait).unwrap(), None);
        state.note_boot("a", wait).unwrap();
        assert_eq!(state.boot(wait).unwrap().as_deref(), Some("a"));

        assert_eq!(state.discard_tasks(wait).unwrap(), 1);
        assert!(!state.bundles().exists() && !state.runtime_root().exists());
        // What is large is removed in the background.
        let trash = root.join("trash");
        assert_eq!(list(&trash).unwrap().len(), 3);
        state.access.trash.sweep().unwrap();
        assert_eq!(list(&trash).unwrap(), Vec::<String>::new());
        let left = [state.removed(wait).unwrap(), state.remains(wait).unwrap()].concat();
        assert_eq!((state.containers(wait).unwrap().len(), left.len()), (1, 2));
        for dir in kept {
            dir.read(wait).unwrap();
        }
        // There may be nothing.
        assert_eq!(state.discard_tasks(wait).unwrap(), 0);
    }
}
