//! A bundle, and what the service itself needs of its config.json. The file is the caller's and is
//! never written.

mod config;
mod escape;
mod json;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

pub use config::Config;
use gantry_disk::{DiskError, Disks, ReadError, read_regular};
use gantry_domain::{ProcessSpec, Stdio};
pub use json::Dialect;

/// Larger ones are refused. No runtime has a limit, and no real one comes near.
const MAX_CONFIG: u64 = 16 << 20;

/// A bundle directory that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    path: PathBuf,
    config: Config,
}

/// Why a path is not a bundle.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BundleError {
    #[error("must be an absolute path, is {0:?}")]
    Relative(PathBuf),
    #[error("must not contain '..': {0:?}")]
    Parent(PathBuf),
    #[error("{path}: {message}", path = .path.display())]
    NotADirectory { path: PathBuf, message: &'static str },
    #[error("{path} {problem}", path = .path.display())]
    Config { path: PathBuf, problem: ReadError },
}

impl Bundle {
    /// Opens the bundle whose first process is to have these streams, for a runtime that reads
    /// config.json in its own way.
    pub async fn open(
        disks: &Disks,
        path: &Path,
        stdio: Stdio,
        dialect: Dialect,
    ) -> Result<Result<Self, BundleError>, DiskError> {
        let work = move |config: &Path| {
            let path = config.parent().unwrap_or(config);
            Self::read(path, stdio, dialect)
        };
        disks.run("read", &path.join("config.json"), work).await
    }

    /// As [`Self::open`], for a thread that may wait for a disk.
    pub fn read(path: &Path, stdio: Stdio, dialect: Dialect) -> Result<Self, BundleError> {
        if !path.is_absolute() {
            return Err(BundleError::Relative(path.to_owned()));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(BundleError::Parent(path.to_owned()));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(not_a_directory(path, "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_a_directory(path, "no such file or directory"));
            }
            Err(_) => return Err(not_a_directory(path, "permission denied")),
        }
        let config = path.join("config.json");
        let text = match read_regular(&config, MAX_CONFIG) {
            Ok(text) => text,
            // The runtime reports that with its own message.
            Err(ReadError::Io(_)) => Vec::new(),
            Err(problem) => return Err(BundleError::Config { path: config, problem }),
        };
        Ok(Self { path: path.to_owned(), config: Config::read(&text, stdio, dialect) })
    }

    /// A bundle that is about to be made at an absolute path, with this config.json. Whether the first process
    /// has a terminal is up to the caller.
    pub fn to_be(
        path: PathBuf,
        config: &[u8],
        stdio: Stdio,
        terminal: bool,
        dialect: Dialect,
    ) -> Self {
        let mut config = Config::read(config, stdio, dialect);
        config.init.terminal = terminal;
        Self { path, config }
    }

    /// An absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its first process.
    pub fn init(&self) -> &ProcessSpec {
        &self.config.init
    }

    /// Whether the container has a pid namespace of its own.
    pub fn has_pid_namespace(&self) -> bool {
        self.config.pid_namespace
    }

    /// Whether capabilities are a plain list, as before version 1.0.0-rc5 of the spec. A runtime that
    /// takes such a bundle requires those of further processes in the same form.
    pub fn has_capability_list(&self) -> bool {
        self.config.capability_list
    }

    /// What the process's `oom_score_adj` is to be.
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.config.oom_score_adj
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        let cgroups_path = self.config.cgroups_path.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.path.as_os_str().len() + cgroups_path + self.config.init.memory()
    }

    /// `linux.cgroupsPath`.
    pub fn cgroups_path(&self) -> Option<&str> {
        self.config.cgroups_path.as_deref()
    }
}

fn not_a_directory(path: &Path, message: &'static str) -> BundleError {
    BundleError::NotADirectory { path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_an_absolute_directory() {
        let read = |path: &str| Bundle::read(Path::new(path), Stdio::default(), Dialect::Go);
        assert!(matches!(read("bundle"), Err(BundleError::Relative(_))));
        assert!(matches!(read("/tmp/../etc"), Err(BundleError::Parent(_))));
        assert!(matches!(read("/nowhere"), Err(BundleError::NotADirectory { .. })));
        assert!(matches!(read("/dev/null"), Err(BundleError::NotADirectory { .. })));
    }

    #[test]
    fn its_config_is_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Bundle::read(dir.path(), Stdio::default(), Dialect::Go);
        // The runtime will report it.
        assert!(read().is_ok());
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("config.json")).unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("a device"), "{error}");
    }
}
