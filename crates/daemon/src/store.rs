//! The containers on disk: a directory each, with a JSON file that is replaced atomically.
//!
//! A daemon keeps all of them in memory and reads the disk only at its start, so a database would not
//! help; and a damaged file costs one container only.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Error, Result,
    container::Container,
    lookup,
    model::{Config, Record},
};

/// Ends the name of a directory whose container is gone.
const REMOVED: &str = "removed";

#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// Oldest first.
    containers: Mutex<Vec<Arc<Container>>>,
}

impl Store {
    /// Reads all containers. One that cannot be read is left where it is, and reported.
    pub(crate) fn open(dir: PathBuf) -> Result<Store> {
        fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
        let mut containers = Vec::new();
        for name in names(&dir)? {
            if Path::new(&name).extension().is_some_and(|extension| extension == REMOVED) {
                remove_tree(&dir.join(&name));
                continue;
            }
            match Container::load(&dir, &name.to_string_lossy()) {
                Ok(container) => containers.push(Arc::new(container)),
                Err(error) => tracing::error!(%error, "container not loaded"),
            }
        }
        containers.sort_by_key(|container| container.record().created);
        Ok(Store { dir, containers: Mutex::new(containers) })
    }

    /// Stores a new container; without a name it is called by the beginning of its id.
    pub(crate) fn create(&self, name: String, config: Config) -> Result<Arc<Container>> {
        let id = new_id()?;
        let name = if name.is_empty() { id[..12].to_owned() } else { name };
        let mut containers = self.lock();
        check_free(&containers, &name)?;
        let container = Container::new(&self.dir, Record::new(id, name, config));
        let dir = container.dir();
        fs::create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
        if let Err(error) = container.save() {
            let _ = fs::remove_dir_all(dir);
            return Err(error);
        }
        let container = Arc::new(container);
        containers.push(Arc::clone(&container));
        Ok(container)
    }

    /// What a reference means.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Container>> {
        lookup::find(&self.lock(), reference)
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.lock().clone()
    }

    pub(crate) fn rename(&self, container: &Container, name: &str) -> Result<()> {
        let containers = self.lock();
        check_free(&containers, name)?;
        container.update(|record| name.clone_into(&mut record.name))
    }

    /// Forgets a container and removes its directory. It is gone once that is renamed; what is left
    /// then by an error or a crash is removed at the next start.
    pub(crate) fn remove(&self, container: &Container) -> Result<()> {
        let dir = container.dir();
        let removed = dir.with_extension(REMOVED);
        fs::rename(dir, &removed).map_err(|error| Error::io("remove", dir, error))?;
        self.lock().retain(|other| other.id() != container.id());
        remove_tree(&removed);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Container>>> {
        // Every change is one call, so a panic elsewhere cannot have spoilt the list.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>> {
    let names = || -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    names().map_err(|error| Error::io("list", dir, error))
}

fn remove_tree(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "not removed, until the next start");
    }
}

fn check_free(containers: &[Arc<Container>], name: &str) -> Result<()> {
    match containers.iter().find(|container| container.record().name == name) {
        None => Ok(()),
        Some(owner) => Err(Error::NameTaken {
            name: name.to_owned(),
            owner: format!("container {}", owner.id()),
        }),
    }
}

/// 64 hexadecimal digits that nobody else has.
pub(crate) fn new_id() -> Result<String> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 32];
    fs::File::open(SOURCE)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("read", SOURCE, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::testing;

    #[test]
    fn containers_outlive_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let web = store.create("web".into(), testing::config()).unwrap();
        let other = store.create(String::new(), testing::config()).unwrap();
        assert_eq!(other.record().name, other.id()[..12]);
        store.rename(&web, "front").unwrap();
        store.remove(&other).unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let all = store.all();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].record(), web.record());
        assert_eq!(all[0].record().name, "front");
    }

    #[test]
    fn a_name_belongs_to_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        store.create("a".into(), testing::config()).unwrap();
        let b = store.create("b".into(), testing::config()).unwrap();
        assert!(matches!(store.rename(&b, "a"), Err(Error::NameTaken { .. })));
        let again = store.create("a".into(), testing::config());
        assert!(matches!(again, Err(Error::NameTaken { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_unreadable_container_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let good = store.create("good".into(), testing::config()).unwrap();
        let bad = store.create("bad".into(), testing::config()).unwrap();
        fs::write(bad.dir().join("container.json"), "\0\0").unwrap();
        fs::create_dir(dir.path().join("half.removed")).unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        assert_eq!(store.all().len(), 1);
        assert_eq!(store.find("good").unwrap().id(), good.id());
        assert!(bad.dir().exists() && !dir.path().join("half.removed").exists());
    }
}
