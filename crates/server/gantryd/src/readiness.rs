//! Whether the programs are there that are needed to start a process.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use gantry_runtime::Environment;
use nix::unistd::{AccessFlags, access};
use tokio::{sync::oneshot, time::timeout};

use crate::config::Config;

/// How long a check of the programs may take before the result of the last one is used.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);

/// The programs without which nothing can be started.
#[derive(Debug, Clone)]
pub(crate) struct Programs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shim: PathBuf,
    runtime: String,
    environment: Environment,
    being_looked_for: AtomicBool,
    /// The result of the last check.
    there: AtomicBool,
}

impl Programs {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            shim: config.shim_binary.clone(),
            runtime: config.runtime.clone(),
            environment: Environment::of_server(&config.runtime_env),
            being_looked_for: AtomicBool::new(false),
            there: AtomicBool::new(true),
        }))
    }

    /// Whether the programs can be executed. Checked on a thread of its own, as they may be on a file
    /// system that does not answer; one check at a time.
    pub(crate) async fn are_there(&self) -> bool {
        let inner = &self.0;
        if !inner.being_looked_for.swap(true, Ordering::SeqCst) {
            let programs = self.clone();
            let (done, checked) = oneshot::channel();
            let started = thread::Builder::new().spawn(move || {
                programs.check();
                // Nobody may wait any more.
                let _ = done.send(());
            });
            match started {
                // If the answer is late or missing, the last one is used.
                Ok(_) => drop(timeout(CHECK_DEADLINE, checked).await),
                Err(_) => inner.being_looked_for.store(false, Ordering::SeqCst),
            }
        }
        inner.there.load(Ordering::SeqCst)
    }

    fn check(&self) {
        let Inner { shim, runtime, environment, being_looked_for, there } = &*self.0;
        let missing = missing(shim, (environment, runtime));
        if there.swap(missing.is_empty(), Ordering::SeqCst) != missing.is_empty() {
            match missing.as_slice() {
                [] => tracing::info!("processes can be started"),
                missing => tracing::warn!(?missing, "no process can be started"),
            }
        }
        being_looked_for.store(false, Ordering::SeqCst);
    }
}

fn missing(shim: &Path, (environment, runtime): (&Environment, &str)) -> Vec<String> {
    let mut missing = Vec::new();
    if let Err(error) = access(shim, AccessFlags::X_OK) {
        missing.push(format!("shim {}: {error}", shim.display()));
    }
    if let Err(error) = environment.find(runtime, false) {
        missing.push(error.to_string());
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let shim = directory.path().join("shim");
        let environment = Environment::of_server(&["PATH=/bin".parse().unwrap()]);
        let missing = |runtime| missing(&shim, (&environment, runtime));
        let checked = missing("no-such-runtime");
        assert!(
            checked[0].contains("shim") && checked[1].contains("no-such-runtime"),
            "{checked:?}"
        );
        fs::write(&shim, "").unwrap();
        assert_eq!(missing("sh").len(), 1, "it cannot be executed");
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(missing("sh"), [""; 0]);
    }
}
