//! The bundle directory of a container: config.json for the runtime, pipes for its processes.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxIdMapping, Spec};

use crate::{
    error::{Error, ErrorKind, Result},
    pipes,
};

const CONFIG: &str = "config.json";

/// What was made for a container that is being created. Dropping it removes that.
#[derive(Debug)]
pub(crate) struct Bundle {
    dir: PathBuf,
    made_dir: bool,
    made_config: bool,
}

impl Bundle {
    /// Makes the directory (mode 0700, of the user that is root in the container) and config.json.
    pub(crate) fn write(dir: &Path, spec: &Spec) -> Result<Bundle> {
        let mut bundle = Bundle { dir: dir.to_owned(), made_dir: false, made_config: false };
        bundle.make_dir(spec)?;
        bundle.made_config = !is_used(dir);
        write_config(dir, spec)?;
        Ok(bundle)
    }

    /// Takes a bundle that somebody else wrote, and never removes anything of it.
    pub(crate) fn existing(dir: &Path) -> Bundle {
        Bundle { dir: dir.to_owned(), made_dir: false, made_config: false }
    }

    fn make_dir(&mut self, spec: &Spec) -> Result<()> {
        let failed = |what, e| Error::io(what, &self.dir, e);
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Ok(()) => self.made_dir = true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
                    .map_err(|e| failed("set the mode of bundle", e))?;
            }
            Err(e) => return Err(failed("create bundle", e)),
        }
        if let Some((uid, gid)) = mapped_root(spec) {
            chown(&self.dir, Some(uid), Some(gid))
                .map_err(|e| failed("set the owner of bundle", e))?;
        }
        Ok(())
    }

    /// The container exists: its bundle stays.
    pub(crate) fn keep(mut self) {
        self.made_dir = false;
        self.made_config = false;
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let config = self.dir.join(CONFIG);
        let removed = if self.made_config { fs::remove_file(config) } else { Ok(()) };
        let removed = removed.and(if self.made_dir { fs::remove_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::warn!(bundle = %self.dir.display(), %error, "bundle not removed");
        }
    }
}

/// Writes the file in full under another name and then moves it into place.
fn write_config(dir: &Path, spec: &Spec) -> Result<()> {
    let path = dir.join(CONFIG);
    let text = serde_json::to_vec(spec).map_err(|error| {
        let kind = ErrorKind::Spec { path: path.clone(), source: error.into() };
        Error::new("write config", kind)
    })?;
    let temporary = dir.join(".config.json.new");
    let written = replace(&temporary, &path, &text);
    if written.is_err() {
        // Best effort: the error that counts is the one of the write.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|e| Error::io("write config", path, e))
}

fn replace(temporary: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// Whether a container was or is made from this directory.
pub(crate) fn is_used(dir: &Path) -> bool {
    dir.join(CONFIG).exists()
}

/// Removes what this crate puts into a bundle, and the directory if nothing else is in it.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    let failed = |e| Error::io("remove bundle", dir, e);
    pipes::remove_all(dir, gantry_api::INIT);
    absent_is_fine(fs::remove_file(dir.join(CONFIG))).map_err(failed)?;
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => absent_is_fine(result).map_err(failed),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether config.json asks for a terminal. Lenient: other versions of the format count too.
pub(crate) fn wants_terminal(dir: &Path) -> Result<bool> {
    let path = dir.join(CONFIG);
    let text = fs::read(&path).map_err(|e| Error::io("read config", &path, e))?;
    let config: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
        Error::new("read config", ErrorKind::Spec { path, source: error.into() })
    })?;
    Ok(config["process"]["terminal"].as_bool().unwrap_or_default())
}

/// The host's ids of the container's root, if it has a user namespace.
fn mapped_root(spec: &Spec) -> Option<(u32, u32)> {
    let linux = spec.linux().as_ref()?;
    let root = |mappings: &Option<Vec<LinuxIdMapping>>| {
        let of_root = mappings.iter().flatten().find(|m| m.container_id() == 0 && m.size() > 0);
        of_root.map(LinuxIdMapping::host_id)
    };
    let uid = root(linux.uid_mappings())?;
    Some((uid, root(linux.gid_mappings()).unwrap_or(uid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxBuilder, LinuxIdMappingBuilder, SpecBuilder};
    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn is_private_and_holds_the_config() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("web");
        let spec = Spec::default();
        Bundle::write(&dir, &spec).unwrap().keep();
        assert_eq!(mode(&dir), 0o700);
        let names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [CONFIG]);
        assert_eq!(Spec::load(dir.join(CONFIG)).unwrap(), spec);
        assert!(!wants_terminal(&dir).unwrap());
    }

    #[test]
    fn an_undone_bundle_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("web");
        drop(Bundle::write(&dir, &Spec::default()).unwrap());
        assert!(!dir.exists());
    }

    #[test]
    fn undoing_leaves_what_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("keep"), "me").unwrap();
        let bundle = Bundle::write(dir.path(), &Spec::default()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        drop(bundle);
        assert!(dir.path().join("keep").exists());
        assert!(!dir.path().join(CONFIG).exists());
    }

    #[test]
    fn removing_spares_what_is_not_ours() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("web");
        Bundle::write(&dir, &Spec::default()).unwrap().keep();
        fs::write(dir.join("checkpoint"), "").unwrap();
        remove(&dir).unwrap();
        assert!(dir.join("checkpoint").exists() && !dir.join(CONFIG).exists());
        fs::remove_file(dir.join("checkpoint")).unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn belongs_to_the_mapped_root() {
        let map = |host: u32| {
            LinuxIdMappingBuilder::default().host_id(host).container_id(0_u32).size(9_u32).build()
        };
        let linux = LinuxBuilder::default()
            .uid_mappings([map(1000).unwrap()])
            .gid_mappings([map(2000).unwrap()])
            .build()
            .unwrap();
        let spec = SpecBuilder::default().linux(linux).build().unwrap();
        assert_eq!(mapped_root(&spec), Some((1000, 2000)));
        assert_eq!(mapped_root(&Spec::default()), None);

        if rustix::process::geteuid().is_root() {
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join("web");
            Bundle::write(&dir, &spec).unwrap().keep();
            let meta = fs::metadata(&dir).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (1000, 2000));
        }
    }
}
