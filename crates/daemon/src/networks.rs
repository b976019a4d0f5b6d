//! The networks that containers can be connected to: a JSON file each.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, json_file, store, subnet::Subnet};

/// The network of containers that name none. There they do not find each other by name.
pub(crate) const DEFAULT: &str = "bridge";

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its addresses.
    pub subnet: Subnet,
}

impl Network {
    /// The host's interface: at most 15 characters (IFNAMSIZ of linux/if.h, less the NUL).
    pub fn interface(&self) -> String {
        format!("gantry-{}", &self.id[..8])
    }
}

#[derive(Debug)]
pub(crate) struct Networks {
    dir: PathBuf,
    /// Where networks that name no subnet get theirs from.
    pool: Subnet,
    networks: Mutex<BTreeMap<String, Network>>,
}

impl Networks {
    /// Reads all networks, and makes the default one if there is none yet.
    pub(crate) fn open(dir: PathBuf, pool: Subnet) -> Result<Networks> {
        let failed = |error| Error::io("read networks from", &dir, error);
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let network: Network = json_file::read(&path)?;
                found.insert(network.name.clone(), network);
            }
        }
        let networks = Networks { dir, pool, networks: Mutex::new(found) };
        if networks.find(DEFAULT).is_err() {
            networks.create(DEFAULT, None)?;
        }
        Ok(networks)
    }

    /// Defines a network. Its interface is made with its first container.
    pub(crate) fn create(&self, name: &str, subnet: Option<Subnet>) -> Result<Network> {
        let mut networks = self.lock();
        let taken = |owner| Error::NameTaken { name: name.to_owned(), owner };
        if networks.contains_key(name) {
            return Err(taken("a network".to_owned()));
        }
        let is_free = |subnet: &Subnet| !networks.values().any(|n| n.subnet.overlaps(*subnet));
        let subnet = match subnet {
            Some(subnet) if is_free(&subnet) => subnet,
            Some(_) => return Err(Error::invalid("subnet", "overlaps that of another network")),
            None => self.pool.parts().find(is_free).ok_or(Error::NoFreeSubnet)?,
        };
        let network = Network { name: name.to_owned(), id: store::new_id()?, subnet };
        json_file::write(&self.path(name), &network)?;
        networks.insert(name.to_owned(), network.clone());
        Ok(network)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Network> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| Error::NoSuchNetwork(name.to_owned()))
    }

    pub(crate) fn all(&self) -> Vec<Network> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let mut networks = self.lock();
        if !networks.contains_key(name) {
            return Err(Error::NoSuchNetwork(name.to_owned()));
        }
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        networks.remove(name);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Network>> {
        // Every change is one call, so a panic elsewhere cannot have spoilt the map.
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path) -> Networks {
        Networks::open(dir.to_owned(), "10.90.0.0/23".parse().unwrap()).unwrap()
    }

    #[test]
    fn networks_last_and_do_not_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let networks = open(dir.path());
        let web = networks.create("web", None).unwrap();
        assert_eq!(web.subnet.to_string(), "10.90.1.0/24");
        assert!(web.interface().len() < 16);
        assert!(matches!(networks.create("db", None), Err(Error::NoFreeSubnet)));
        let taken = "10.90.1.128/25".parse().unwrap();
        assert!(matches!(networks.create("db", Some(taken)), Err(Error::Invalid { .. })));
        assert!(matches!(networks.create("web", None), Err(Error::NameTaken { .. })));
        let names: Vec<_> = open(dir.path()).all().into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["bridge", "web"]);
        networks.remove("web").unwrap();
        assert!(matches!(networks.remove("web"), Err(Error::NoSuchNetwork(_))));
        assert!(matches!(open(dir.path()).find("web"), Err(Error::NoSuchNetwork(_))));
    }
}
