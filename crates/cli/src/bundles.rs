//! Where this command keeps the bundles of its containers, and who may remove them.
//!
//! Each container has a directory. Whoever works on it holds a lock (flock(2)) on the directory
//! itself: `run` while it starts a container, and until its end if it stays attached, or `attach`.
//! With `--rm`, a command that leaves its container running marks the directory, and a later command
//! removes it.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        ffi::OsStringExt,
        fs::{DirBuilderExt, symlink},
    },
    path::{Path, PathBuf},
};

use gantry_client::Client;

use crate::{
    failure::Failure,
    lock::{Locked, is_locked, lock, lock_patiently},
};

/// Marks a bundle that is to be removed when its container has ended. Its content is the socket of the container's server.
const REMOVE_MARK: &str = ".remove-when-ended";

/// A link in a bundle to the file that the container's output goes to.
pub(crate) const LOG: &str = ".log";

/// A bundle directory that is locked by this command.
#[derive(Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
    _lock: File,
}

impl Bundle {
    /// Locks the directory of a container, making it if needed.
    pub(crate) fn claim(id: &str) -> Result<Bundle, Failure> {
        claim_in(&base().join("containers"), id)
    }

    /// Locks the directory of a container, if there is one.
    pub(crate) fn find(id: &str) -> Result<Option<Bundle>, Failure> {
        check_id(id)?;
        if directory(id).exists() { Bundle::claim(id).map(Some) } else { Ok(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its container has a terminal.
    pub(crate) fn wants_terminal(&self) -> bool {
        let config = fs::read(self.path.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        config["process"]["terminal"].as_bool().unwrap_or_default()
    }

    /// Removes it with everything in it, checkpoints too.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.path).map_err(|e| Failure::io(self.path.display(), &e))
    }

    /// A container has started from it: forgets the mark of an earlier one, and says where the output goes, if it goes to
    /// a file.
    pub(crate) fn begin(&self, log: Option<&Path>) -> Result<(), Failure> {
        // An earlier container's mark must not cost this one its bundle.
        let _ = fs::remove_file(self.path.join(REMOVE_MARK));
        let link = self.path.join(LOG);
        let made = match fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => log.map_or(Ok(()), |log| symlink(log, &link)),
        };
        made.map_err(|e| Failure::io(link.display(), &e))
    }

    /// Nothing was started from it: removes it, unless it was there before and holds something.
    pub(crate) fn abandon(self) {
        let _ = fs::remove_dir(&self.path);
    }

    /// Leaves the removal to a later command.
    pub(crate) fn mark_for_removal(&self, server: &Path) -> Result<(), Failure> {
        let mark = self.path.join(REMOVE_MARK);
        fs::write(&mark, name(server)).map_err(|e| Failure::io(mark.display(), &e))
    }
}

/// The directory of a container of containerd's API, for its pipes, locked by this command.
#[derive(Debug)]
pub(crate) struct TaskDir(Bundle);

impl TaskDir {
    /// Locks the directory of a container, making it if needed.
    pub(crate) fn claim(namespace: &str, id: &str) -> Result<TaskDir, Failure> {
        check_id(namespace)?;
        claim_in(&base().join("tasks").join(namespace), id).map(TaskDir)
    }

    /// Locks it if no other command has it.
    pub(crate) fn claim_unused(namespace: &str, id: &str) -> Result<Option<TaskDir>, Failure> {
        let path = TaskDir::of(namespace, id);
        let failed = |e: io::Error| Failure::io(path.display(), &e);
        loop {
            make_private(&path).map_err(failed)?;
            match lock(&path).map_err(failed)? {
                Locked::Yes(lock) => return Ok(Some(TaskDir(Bundle { path, _lock: lock }))),
                Locked::Busy => return Ok(None),
                Locked::Gone => {}
            }
        }
    }

    /// Whether no command has it locked; it need not be there.
    pub(crate) fn is_unused(namespace: &str, id: &str) -> Result<bool, Failure> {
        let path = TaskDir::of(namespace, id);
        let is_locked = is_locked(&path).map_err(|e| Failure::io(path.display(), &e))?;
        Ok(!is_locked)
    }

    /// Ids of a namespace that have one.
    pub(crate) fn all(namespace: &str) -> Vec<String> {
        let entries = fs::read_dir(base().join("tasks").join(namespace)).into_iter().flatten();
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Where it is.
    pub(crate) fn of(namespace: &str, id: &str) -> PathBuf {
        base().join("tasks").join(namespace).join(id)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remove(self) -> Result<(), Failure> {
        self.0.remove()
    }

    /// Nothing was started: removes it, if it is empty.
    pub(crate) fn abandon(self) {
        self.0.abandon();
    }
}

/// Removes the marked bundles whose containers have ended on this server. Failing to is no reason to
/// stop.
pub(crate) async fn sweep(client: &Client, server: &Path) {
    let Ok(entries) = fs::read_dir(base().join("containers")) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_marked =
            || fs::read(path.join(REMOVE_MARK)).is_ok_and(|of| of == self::name(server));
        let Some(id) = name.to_str().filter(|_| is_marked()) else { continue };
        let Ok(Locked::Yes(_lock)) = lock(&path) else { continue };
        if let Ok(None) = client.find(id).await
            && let Err(error) = fs::remove_dir_all(&path)
        {
            eprintln!("gantry: {}: {error}", path.display());
        }
    }
}

/// The name of a server in a mark.
fn name(server: &Path) -> Vec<u8> {
    // It fails where there is no working directory, and then the path cannot have been relative.
    let path = std::path::absolute(server).unwrap_or_else(|_| server.to_owned());
    path.into_os_string().into_vec()
}

/// What `gantry run --rm` has left to be removed at a container's end.
pub(crate) fn remove_if_marked(path: &Path) -> Result<(), Failure> {
    if !path.join(REMOVE_MARK).exists() {
        return Ok(());
    }
    fs::remove_dir_all(path).map_err(|e| Failure::io(path.display(), &e))
}

/// Where the bundle of a container is.
pub(crate) fn directory(id: &str) -> PathBuf {
    base().join("containers").join(id)
}

/// This user's directory.
pub(crate) fn base() -> PathBuf {
    let of_user = || env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let dir = if rustix::process::geteuid().is_root() { None } else { of_user() };
    dir.unwrap_or_else(|| PathBuf::from("/run")).join("gantry-cli")
}

fn claim_in(base: &Path, id: &str) -> Result<Bundle, Failure> {
    check_id(id)?;
    let path = base.join(id);
    let failed = |e: io::Error| Failure::io(path.display(), &e);
    loop {
        make_private(&path).map_err(failed)?;
        match lock_patiently(&path).map_err(failed)? {
            Locked::Yes(lock) => return Ok(Bundle { path, _lock: lock }),
            // Removed between our making and our locking of it.
            Locked::Gone => {}
            Locked::Busy => {
                let message = format!("container {id} is in use by another gantry command");
                return Err(Failure::new(message));
            }
        }
    }
}

/// The server checks ids as well, but this one becomes a path before that.
pub(crate) fn check_id(id: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    if (1..=128).contains(&id.len()) && id.chars().all(good) && id != "." && id != ".." {
        return Ok(());
    }
    Err(Failure::new(format!("{id:?} is no container id: want 1 to 128 of A-Za-z0-9_.+-")))
}

pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_command_at_a_time_has_a_bundle() {
        let base = tempfile::tempdir().unwrap();
        let bundle = claim_in(base.path(), "web").unwrap();
        let mode = fs::metadata(bundle.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        claim_in(base.path(), "web").unwrap_err();
        claim_in(base.path(), "db").unwrap();
        drop(bundle);
        claim_in(base.path(), "web").unwrap();
    }

    #[test]
    fn a_start_forgets_the_mark_and_a_claim_does_not() {
        let base = tempfile::tempdir().unwrap();
        let bundle = claim_in(base.path(), "web").unwrap();
        bundle.mark_for_removal(Path::new("/run/g.sock")).unwrap();
        let mark = bundle.path().join(REMOVE_MARK);
        assert!(mark.exists());
        drop(bundle);
        let bundle = claim_in(base.path(), "web").unwrap();
        assert!(mark.exists());
        bundle.begin(Some(Path::new("/log"))).unwrap();
        assert!(!mark.exists());
        assert_eq!(fs::read_link(bundle.path().join(LOG)).unwrap(), Path::new("/log"));
        bundle.begin(None).unwrap();
        assert!(!bundle.path().join(LOG).exists());
    }

    #[test]
    fn an_abandoned_bundle_goes_unless_it_holds_something() {
        let base = tempfile::tempdir().unwrap();
        let bundle = claim_in(base.path(), "web").unwrap();
        let path = bundle.path().to_owned();
        fs::create_dir(path.join("checkpoints")).unwrap();
        bundle.abandon();
        assert!(path.exists());
        let bundle = claim_in(base.path(), "web").unwrap();
        bundle.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn an_id_cannot_leave_the_directory() {
        let base = tempfile::tempdir().unwrap();
        for id in ["", ".", "..", "a/b", "../x", "a b"] {
            claim_in(base.path(), id).unwrap_err();
        }
        claim_in(base.path(), &"x".repeat(129)).unwrap_err();
    }
}
