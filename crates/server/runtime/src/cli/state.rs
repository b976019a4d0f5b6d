//! What a runtime knows of a container, and whether it is still the same one.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use gantry_domain::ContainerId;
use serde::Deserialize;

use super::{Call, OciError, OciRuntime, Runtimes, Verb};

/// A container as its runtime knows it: the `state` of the OCI runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RuntimeState {
    /// The path that the runtime was given.
    pub bundle: PathBuf,
    /// Of its first process; zero or missing once that has ended.
    #[serde(default)]
    pub pid: u32,
    /// `created`, `running`, `stopped`, or one of the runtime's own.
    #[serde(default)]
    pub status: String,
}

impl RuntimeState {
    /// Whether its first process waits to be started.
    pub fn is_created(&self) -> bool {
        self.status == "created"
    }
}

/// The directory in which a runtime keeps what it knows of a container. As long as it is the same
/// directory, it is the same container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    device: u64,
    inode: u64,
    /// The time of creation, as an inode's number can be reused. Not every file system records it.
    made: Option<SystemTime>,
}

impl OciRuntime {
    /// Where the runtime keeps the container; `None` if it keeps none, or in an unusual place.
    pub fn keeping(&self, id: &ContainerId) -> Option<Keeping> {
        let dir = self.root().join(id.as_str());
        let metadata = fs::metadata(dir).ok().filter(fs::Metadata::is_dir)?;
        let made = metadata.created().ok();
        Some(Keeping { device: metadata.dev(), inode: metadata.ino(), made })
    }
}

impl Runtimes {
    /// What the runtime knows by this id; `None` if it says that it knows nothing.
    pub async fn state(
        &self,
        runtime: &OciRuntime,
        id: &ContainerId,
    ) -> Result<Option<RuntimeState>, OciError> {
        match self.call(runtime, Call::new(Verb::State, &[id.as_str()])).await {
            Ok(state) => parse(&state).map(Some),
            Err(error) if error.is_unknown_container() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A container in the runtime's list.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    pid: u32,
}

impl Runtimes {
    /// The first processes of all containers that the runtime knows in its root.
    pub async fn list(&self, runtime: &OciRuntime) -> Result<Vec<u32>, OciError> {
        let list = self.call(runtime, Call::new(Verb::List, &["--format", "json"])).await?;
        let list: Option<Vec<Listed>> = serde_json::from_slice(&list).map_err(|error| {
            OciError::System { what: "read the runtime's list".to_owned(), cause: error.into() }
        })?;
        Ok(list.into_iter().flatten().map(|listed| listed.pid).collect())
    }
}

fn parse(state: &[u8]) -> Result<RuntimeState, OciError> {
    serde_json::from_slice(state).map_err(|error| OciError::System {
        what: "read the runtime's answer to state".to_owned(),
        cause: error.into(),
    })
}

/// Whether two paths are of one directory, through whatever links they lead.
pub fn is_same_directory(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|dir| (dir.dev(), dir.ino()));
    a == b || identity(a).is_some_and(|a| identity(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_bundle_is_none() {
        let running = parse(br#"{"id":"a","pid":7,"bundle":"/b","status":"running"}"#).unwrap();
        assert_eq!(
            running,
            RuntimeState { bundle: "/b".into(), pid: 7, status: "running".to_owned() }
        );
        assert_eq!(parse(br#"{"bundle":"/b","status":"stopped"}"#).unwrap().pid, 0);
        for bad in ["", "{", "{}", "null", r#"{"bundle":7}"#, r#"{"bundle":"/b","pid":-1}"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_directory_by_two_names() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link, other) =
            (dir.path().join("real"), dir.path().join("link"), dir.path().join("other"));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(is_same_directory(&real, &link));
        assert!(!is_same_directory(&real, &other));
        assert!(!is_same_directory(&real, &dir.path().join("none")));
        assert!(is_same_directory(&dir.path().join("none"), &dir.path().join("none")));
    }

    #[test]
    fn a_directory_that_was_made_again_is_another() {
        let root = tempfile::tempdir().unwrap();
        let args = ["--root".to_owned(), root.path().to_str().unwrap().to_owned()];
        let runtime = OciRuntime::missing("runc", &args);
        let id = ContainerId::parse("web").unwrap();
        assert_eq!(runtime.keeping(&id), None);
        let dir = root.path().join("web");
        fs::create_dir(&dir).unwrap();
        let first = runtime.keeping(&id);
        assert!(first.is_some() && runtime.keeping(&id) == first);
        // Kept, so that its inode number is not reused on a file system without times of creation.
        fs::rename(&dir, root.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        assert_ne!(runtime.keeping(&id), first);
    }
}
