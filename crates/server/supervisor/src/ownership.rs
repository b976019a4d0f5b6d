//! What a runtime may be asked to delete: this server's containers, and leftovers without living processes.
//!
//! `delete` goes by id and kills what runs. In the runtime, the id may belong to somebody else: a person who
//! called the runtime by hand, or another server. A container is not this server's until that is proven.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use gantry_domain::{ContainerId, ProcessId};
use gantry_kernel::{is_descendant, is_living, process_start_time};
use gantry_runtime::{Keeping, OciError, RuntimeState, is_same_directory};
use gantry_shim_proto::PID_FILE;
use tokio::time::sleep;

use crate::{
    Services, SupervisorError,
    create::Identity,
    state_dir::{ContainerRecord, StateError},
};

/// Pauses before asking again a runtime that calls an id taken and yet unknown: another create may be in
/// progress. Leftovers of a killed runtime stay in that state.
const ASK_AGAIN: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Why a container is left alone.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum NotOurs {
    #[error(
        "container {id} exists already in the runtime and is not this server's: bundle {}, pid {pid}",
        bundle.display()
    )]
    Another { id: ContainerId, bundle: PathBuf, pid: u32 },
    #[error("container {id} exists already in the runtime, which cannot say whose it is: {cause}")]
    Unknown { id: ContainerId, cause: OciError },
}

/// What the runtime is to delete.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claim<'a> {
    /// A container of this server. Its first process has ended, or was killed.
    Ended,
    /// A container that could not be made.
    Failed {
        record: &'a ContainerRecord,
        /// The runtime said that it has one of this id.
        taken: bool,
    },
}

/// The runtime's directory of this container, once seen while init was alive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<OnceLock<Option<Keeping>>>);

impl Identity {
    /// Init's pid, if it was started and still lives. An error says neither.
    async fn init(&self) -> Result<Option<u32>, OciError> {
        let dir = self.dir.process(&ProcessId::init());
        let unknown = |cause| OciError::System {
            what: "read which process is the container's".to_owned(),
            cause,
        };
        let read = dir.run(|dir, wait| match dir.started(wait)? {
            Some(started) => Ok((Some(started), None)),
            None => Ok((None, dir.text(PID_FILE, wait)?)),
        });
        let read: Result<_, StateError> = read.await;
        let (started, text) = read.map_err(|error| unknown(io::Error::other(error)))?;
        match started {
            Some(started) => {
                let time = process_start_time(started.pid).map_err(unknown)?;
                Ok((time == Some(started.start_time)).then_some(started.pid))
            }
            // The runtime wrote it for this container, and the shim had no time to.
            None => Ok(text.and_then(|text| text.trim().parse().ok())),
        }
    }
}

impl Services {
    /// To be called while init lives: the id is then this container's in the runtime.
    pub(crate) async fn note_keeping(&self, identity: &Identity) {
        if identity.seen.0.get().is_none() {
            // Another call has seen the same.
            let _ = identity.seen.0.set(self.keeping(identity).await);
        }
    }

    /// The runtime's directory of the container as it is now, below the runtime's root, which may be on a file system
    /// that does not answer. None if there is no directory, or no answer.
    async fn keeping(&self, identity: &Identity) -> Option<Keeping> {
        let (runtime, id) = (identity.runtime.clone(), identity.key.id.clone());
        let place = runtime.root();
        let inspect = move |_: &Path| runtime.keeping(&id);
        self.disks.run("find the container in", &place, inspect).await.ok().flatten()
    }

    /// Whether what the runtime knows by the id is surely this container.
    async fn is_surely_ours(&self, identity: &Identity) -> bool {
        match identity.seen.0.get() {
            Some(Some(seen)) => self.keeping(identity).await.as_ref() == Some(seen),
            _ => false,
        }
    }

    /// An error if what the runtime knows by the id is surely another container.
    pub(crate) async fn require_same(&self, identity: &Identity) -> Result<(), SupervisorError> {
        let Some(Some(seen)) = identity.seen.0.get() else { return Ok(()) };
        match self.keeping(identity).await {
            Some(now) if now != *seen => Err(SupervisorError::Replaced(identity.key.id.clone())),
            _ => Ok(()),
        }
    }

    /// Whether the runtime may be asked to delete what it knows by the container's id.
    pub(crate) async fn require_ours(
        &self,
        identity: &Identity,
        claim: Claim<'_>,
    ) -> Result<(), NotOurs> {
        if self.is_surely_ours(identity).await {
            return Ok(());
        }
        let id = &identity.key.id;
        let state = self.ask(identity, claim).await;
        let unknown = |cause| NotOurs::Unknown { id: id.clone(), cause };
        let (state, init) = (state.map_err(unknown)?, identity.init().await.map_err(unknown)?);
        let Some(state) = state else { return Ok(()) };
        let ours = match claim {
            Claim::Ended => is_ours(&state, claim, init),
            Claim::Failed { record, taken } => {
                let (known, own) = (state.clone(), record.clone());
                let inspect =
                    move |_: &Path| is_ours(&known, Claim::Failed { record: &own, taken }, init);
                // A bundle on a file system that does not answer is not known to be the same.
                self.disks.run("examine", &record.bundle, inspect).await.unwrap_or(false)
            }
        };
        let RuntimeState { bundle, pid, .. } = state;
        if ours { Ok(()) } else { Err(NotOurs::Another { id: id.clone(), bundle, pid }) }
    }

    async fn ask(
        &self,
        identity: &Identity,
        claim: Claim<'_>,
    ) -> Result<Option<RuntimeState>, OciError> {
        let state = || self.ask_runtime(&identity.runtime, &identity.key.id);
        let mut known = state().await?;
        if matches!(claim, Claim::Failed { taken: true, .. }) {
            for pause in ASK_AGAIN {
                if known.is_some() {
                    break;
                }
                sleep(pause).await;
                known = state().await?;
            }
        }
        Ok(known)
    }
}

fn is_ours(state: &RuntimeState, claim: Claim<'_>, init: Option<u32>) -> bool {
    match claim {
        _ if is_living(state.pid) => {
            // What a runtime of this server's has started comes to the server when its shim is gone.
            init == Some(state.pid)
                || is_descendant(state.pid, std::process::id())
                || was_an_earlier_servers(state, claim)
        }
        Claim::Ended => true,
        Claim::Failed { record, .. } => is_same_directory(&record.bundle, &state.bundle),
    }
}

/// Whether the first process was started while an earlier server had the runtime make a container of this id and
/// bundle. Another's container of this id would have been in the way.
fn was_an_earlier_servers(state: &RuntimeState, claim: Claim<'_>) -> bool {
    let Claim::Failed { record, taken: false } = claim else { return false };
    let start = process_start_time(state.pid).ok().flatten();
    start.is_some_and(|start| record.was_tried_at(start))
        && is_same_directory(&record.bundle, &state.bundle)
}

#[cfg(test)]
mod tests {
    use gantry_domain::{ContainerKey, Generation, Namespace};

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
    fn child() -> std::process::Child {
        std::process::Command::new("sleep").arg("100").spawn().unwrap()
    }

    fn record(bundle: &Path) -> ContainerRecord {
        let id = ContainerId::parse("c").unwrap();
        let key = ContainerKey { namespace: Namespace::TYPES_API, id };
        ContainerRecord::new(&key, Generation(1), bundle.to_owned())
    }

    fn state(bundle: &Path, pid: u32) -> RuntimeState {
        RuntimeState { bundle: bundle.to_owned(), pid, status: String::new() }
    }

    #[test]
    fn what_lives_is_ours_only_if_it_is_known() {
        let bundle = tempfile::tempdir().unwrap();
        let state = |pid| state(bundle.path(), pid);
        let own = record(bundle.path());
        let failed = Claim::Failed { record: &own, taken: true };
        for claim in [failed, Claim::Ended] {
            // The first process of the host is nobody's child.
            assert!(!is_ours(&state(1), claim, None));
            assert!(!is_ours(&state(1), claim, Some(7)));
            assert!(is_ours(&state(1), claim, Some(1)));
            let mut child = child();
            assert!(is_ours(&state(child.id()), claim, None));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(is_ours(&state(child.id()), claim, None), "a left-over");
            assert!(is_ours(&state(0), claim, None), "a left-over");
        }
        let other = tempfile::tempdir().unwrap();
        let failed = Claim::Failed { record: &record(other.path()), taken: true };
        assert!(!is_ours(&state(0), failed, None), "of another bundle");
    }

    #[test]
    fn what_an_earlier_server_has_started_is_known_by_its_time() {
        let bundle = tempfile::tempdir().unwrap();
        let start = process_start_time(1).unwrap().unwrap();
        let tried = |begin, end| {
            let mut record = record(bundle.path());
            (record.begun_at, record.failed_at) = (begin, end);
            record
        };
        let is_ours = |record: &ContainerRecord, taken| {
            is_ours(&state(bundle.path(), 1), Claim::Failed { record, taken }, None)
        };
        let own = tried(Some(start), Some(start));
        assert!(is_ours(&own, false));
        assert!(!is_ours(&own, true), "it was in the way");
        assert!(!is_ours(&tried(Some(start + 1), Some(start + 2)), false), "there before");
        assert!(!is_ours(&tried(Some(start), None), false), "perhaps afterwards");
        let mut elsewhere = own;
        elsewhere.bundle = "/".into();
        assert!(!is_ours(&elsewhere, false), "of another bundle");
    }
}
