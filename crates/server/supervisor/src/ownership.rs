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

use gantry_domain::{ContainerId, ProcessId, Retention, Stdio};
use gantry_kernel::{has_streams, is_descendant, is_living, process_start_time};
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

/// What is known of the first process of a container.
#[derive(Debug, Default)]
struct Init {
    /// Its pid, if it was started and still lives.
    pid: Option<u32>,
    /// The named pipes that it was to have; none if they are not known.
    streams: Stdio,
}

/// The runtime's directory of this container, once seen while init was alive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<OnceLock<Option<Keeping>>>);

impl Identity {
    /// An error says neither that it lives nor that it does not.
    async fn init(&self) -> Result<Init, OciError> {
        let dir = self.dir.process(&ProcessId::init());
        let unknown = |cause| OciError::System {
            what: "read which process is the container's".to_owned(),
            cause,
        };
        let read = dir.run(|dir, wait| {
            // Without a record there is nothing else either.
            let spec = dir.read(wait).ok().map(|record| record.spec);
            let streams = spec.filter(|spec| !spec.terminal).map(|spec| spec.stdio);
            match dir.started(wait)? {
                Some(started) => Ok((streams, Some(started), None)),
                None => Ok((streams, None, dir.text(PID_FILE, wait)?)),
            }
        });
        let read: Result<_, StateError> = read.await;
        let (streams, started, text) = read.map_err(|error| unknown(io::Error::other(error)))?;
        let pid = match started {
            Some(started) => {
                let time = process_start_time(started.pid).map_err(unknown)?;
                (time == Some(started.start_time)).then_some(started.pid)
            }
            // The runtime wrote it for this container, and the shim had no time to.
            None => text.and_then(|text| text.trim().parse().ok()),
        };
        Ok(Init { pid, streams: streams.unwrap_or_default() })
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
        let unknown = |cause| NotOurs::Unknown { id: id.clone(), cause };
        if matches!(claim, Claim::Failed { .. }) {
            identity.outlast_runtime().await.map_err(unknown)?;
        }
        let state = self.ask(identity, claim).await;
        let (state, init) = (state.map_err(unknown)?, identity.init().await.map_err(unknown)?);
        let Some(state) = state else { return Ok(()) };
        let ours = match claim {
            Claim::Ended => is_ours(&state, claim, &init),
            Claim::Failed { record, taken } => {
                let (known, own) = (state.clone(), record.clone());
                let inspect =
                    move |_: &Path| is_ours(&known, Claim::Failed { record: &own, taken }, &init);
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

fn is_ours(state: &RuntimeState, claim: Claim<'_>, init: &Init) -> bool {
    match claim {
        _ if is_living(state.pid) => {
            // What a runtime of this server's has started comes to the server when its shim is gone.
            init.pid == Some(state.pid)
                || is_descendant(state.pid, std::process::id())
                || was_an_earlier_servers(state, claim, init)
        }
        Claim::Ended => true,
        Claim::Failed { record, .. } => is_same_directory(&record.bundle, &state.bundle),
    }
}

/// Whether an earlier server had the runtime make it. Shim and runtime may have been killed then too, so that nobody
/// noted the pid.
fn was_an_earlier_servers(state: &RuntimeState, claim: Claim<'_>, init: &Init) -> bool {
    let Claim::Failed { record, taken } = claim else { return false };
    if !is_same_directory(&record.bundle, &state.bundle) {
        return false;
    }
    if record.retention == Retention::UntilDeleted {
        // The bundle is a directory of the server's own, made for this task.
        return true;
    }
    // Anybody can have a container of a daemon's bundle. One that was in the way is another's.
    let start = || process_start_time(state.pid).ok().flatten();
    // The shim hands its stdin on through a pipe of its own.
    let Stdio { stdout, stderr, .. } = &init.streams;
    let streams = [None, stdout.as_deref(), stderr.as_deref()];
    !taken
        && (has_streams(state.pid, streams)
            || start().is_some_and(|start| record.was_tried_at(start)))
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

    fn of(pid: u32) -> Init {
        Init { pid: Some(pid), streams: Stdio::default() }
    }

    #[test]
    fn what_lives_is_ours_only_if_it_is_known() {
        let bundle = tempfile::tempdir().unwrap();
        let state = |pid| state(bundle.path(), pid);
        let own = record(bundle.path());
        let failed = Claim::Failed { record: &own, taken: true };
        for claim in [failed, Claim::Ended] {
            // The first process of the host is nobody's child.
            assert!(!is_ours(&state(1), claim, &Init::default()));
            assert!(!is_ours(&state(1), claim, &of(7)));
            assert!(is_ours(&state(1), claim, &of(1)));
            let mut child = child();
            assert!(is_ours(&state(child.id()), claim, &Init::default()));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(is_ours(&state(child.id()), claim, &Init::default()), "a left-over");
            assert!(is_ours(&state(0), claim, &Init::default()), "a left-over");
        }
        let other = tempfile::tempdir().unwrap();
        let failed = Claim::Failed { record: &record(other.path()), taken: true };
        assert!(!is_ours(&state(0), failed, &Init::default()), "of another bundle");
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
            is_ours(&state(bundle.path(), 1), Claim::Failed { record, taken }, &Init::default())
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

    #[test]
    fn what_has_a_bundle_of_the_servers_own_is_the_servers() {
        let bundle = tempfile::tempdir().unwrap();
        let mut task = record(bundle.path());
        task.retention = Retention::UntilDeleted;
        for taken in [true, false] {
            let claim = Claim::Failed { record: &task, taken };
            assert!(is_ours(&state(bundle.path(), 1), claim, &Init::default()));
            assert!(!is_ours(&state("/".as_ref(), 1), claim, &Init::default()));
        }
    }

    #[test]
    fn what_has_the_pipes_that_it_was_to_have_is_the_servers() {
        let bundle = tempfile::tempdir().unwrap();
        let output = bundle.path().join("output");
        nix::unistd::mkfifo(&output, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = std::fs::File::options().read(true).write(true).open(&output).unwrap();
        #[allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
        let mut child =
            std::process::Command::new("sleep").arg("100").stdout(pipe).spawn().unwrap();
        let own = record(bundle.path());
        let is_ours = |stdout: &Path, taken| {
            let streams = Stdio { stdout: Some(stdout.to_owned()), ..Stdio::default() };
            let init = Init { pid: None, streams };
            let state = state(bundle.path(), child.id());
            was_an_earlier_servers(&state, Claim::Failed { record: &own, taken }, &init)
        };
        let found =
            [is_ours(&output, false), is_ours(&output, true), is_ours("/dev/null".as_ref(), false)];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [true, false, false]);
    }
}
