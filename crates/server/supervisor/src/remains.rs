//! What remains of a container whose exit was published, or that was never started: the runtime's state, a
//! cgroup, processes in it, files.
//!
//! The container's directory is in `remains/` and names what is left. Each removal is retried, also by a
//! later server, until it succeeds; the directory is removed last. Nobody waits for this: the exit is
//! published and the id is free. If a new container uses the id, nothing is removed by that id until the
//! container is gone.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_disk::DiskError;
use gantry_domain::{ContainerKey, Generation};
use gantry_kernel::{Backoff, cgroup::CgroupError, mount::UnmountError};
use gantry_runtime::OciError;
use tokio::sync::{mpsc, oneshot};

use crate::{
    NotOurs, Services,
    create::Identity,
    handle::ContainerHandle,
    ownership::Claim,
    state_dir::{ContainerRecord, StateDir, StateError},
};

/// The longest pause between two attempts: each may cost two calls of the runtime.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What could not be removed of a container that is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Remaining {
    #[error("its exit cannot be journalled")]
    Exit,
    #[error(transparent)]
    NotOurs(NotOurs),
    #[error("the runtime does not delete it: {0}")]
    Runtime(OciError),
    #[error("its processes cannot be killed: {0}")]
    Processes(CgroupError),
    #[error("its cgroup cannot be removed: {0}")]
    Cgroup(CgroupError),
    #[error(transparent)]
    Disk(DiskError),
    #[error("its root file system cannot be unmounted: {0}")]
    Mounts(UnmountError),
    #[error("its image cannot be removed: {0}")]
    Image(io::Error),
    #[error("its bundle cannot be removed: {0}")]
    Bundle(StateError),
    #[error("its id is in use again")]
    IdInUse,
}

impl Remaining {
    /// No retry: the id is another container's in the runtime.
    pub(crate) fn is_anothers(&self) -> bool {
        matches!(self, Self::NotOurs(NotOurs::Another { .. }))
    }

    /// Only the bundle is left, which the server has made.
    pub(crate) fn is_of_bundle(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::Mounts(_) | Self::Image(_) | Self::Bundle(_))
    }
}

/// A container that is over, and what of its removal is done.
pub(crate) struct Over {
    /// With its directory set aside.
    pub(crate) identity: Identity,
    pub(crate) record: ContainerRecord,
    /// Its start was published, and its first process has ended.
    pub(crate) ended: bool,
    /// Its exit is in the journal, or it has none.
    pub(crate) journalled: bool,
    /// Neither the runtime nor the kernel has anything of it any more.
    pub(crate) deleted: bool,
}

/// Requests an attempt at once; it is over when the inner sender is dropped.
type Hurry = mpsc::Sender<oneshot::Sender<()>>;

/// Containers of which something remains.
#[derive(Default)]
pub(crate) struct Remains(Mutex<BTreeMap<(ContainerKey, Generation), Hurry>>);

impl Remains {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ContainerKey, Generation), Hurry>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries at once to remove what remains of earlier containers of this id.
    pub(crate) async fn hurry(&self, key: &ContainerKey) {
        let of_key = |(of, _): &(ContainerKey, Generation)| of == key;
        let hurries: Vec<Hurry> = {
            let remains = self.lock();
            remains.iter().filter(|(of, _)| of_key(of)).map(|(_, hurry)| hurry.clone()).collect()
        };
        for hurry in hurries {
            let (attempted, attempt) = oneshot::channel();
            // It may have been removed meanwhile.
            if hurry.send(attempted).await.is_ok() {
                let _ = attempt.await;
            }
        }
    }
}

impl Services {
    /// Removes what remains now, or retries until it is removed.
    pub(crate) async fn remove_remains(self: &Arc<Self>, over: Over) {
        if over.journalled && over.deleted {
            return over.identity.dir.discard().await;
        }
        let of = (over.identity.key.clone(), over.identity.generation);
        let (hurry, hurried) = mpsc::channel(1);
        self.remains.lock().insert(of.clone(), hurry);
        let services = Arc::clone(self);
        tokio::spawn(async move {
            services.retry(over, hurried).await;
            services.remains.lock().remove(&of);
        });
    }

    /// Removes a container whose start was not published; retries what fails.
    pub(crate) async fn abandon(
        self: &Arc<Self>,
        identity: &Identity,
        record: &ContainerRecord,
        deleted: bool,
    ) {
        let (identity, record) = (identity.clone(), record.clone());
        let mut over = Over { identity, record, ended: false, journalled: true, deleted };
        if !deleted {
            let (dir, generation) = (over.identity.dir.clone(), over.identity.generation);
            let aside = move |state: &StateDir, wait: &_| state.set_aside(&dir, generation, wait);
            match self.state.run(aside).await {
                Ok(dir) => over.identity.dir = dir,
                Err(error) => {
                    let container = &over.identity.key;
                    tracing::error!(%container, %error, "cannot set its state aside");
                    over.deleted = true;
                }
            }
        }
        self.remove_remains(over).await;
    }

    async fn retry(&self, mut over: Over, mut hurried: mpsc::Receiver<oneshot::Sender<()>>) {
        let key = over.identity.key.clone();
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let mut failures = 0_u32;
        while let Err(error) = self.attempt(&mut over).await {
            if failures == 0 {
                tracing::warn!(
                    container = %key, %error,
                    "something of it remains; its removal is tried again until it succeeds",
                );
            } else {
                tracing::debug!(container = %key, %error, failures, "something of it still cannot be removed");
            }
            failures += 1;
            tokio::select! {
                () = backoff.pause() => {}
                // Whoever asked for an attempt sees the sender dropped when it is over.
                Some(_attempted) = hurried.recv() => {
                    let _ = self.attempt(&mut over).await;
                }
            }
        }
        if failures > 0 {
            tracing::info!(container = %key, failures, "everything of it is removed");
        }
        over.identity.dir.discard().await;
    }

    /// Does the remaining steps; may be repeated after success.
    async fn attempt(&self, over: &mut Over) -> Result<(), Remaining> {
        if !over.journalled {
            over.journalled = self.events.flush().await;
        }
        if over.journalled && !over.deleted {
            let (dir, generation) = (over.identity.dir.clone(), over.identity.generation);
            let keep = move |state: &StateDir, wait: &_| state.keep_remains(&dir, generation, wait);
            if let Ok(dir) = self.state.run(keep).await {
                over.identity.dir = dir;
            }
        }
        if !over.deleted {
            self.delete_remains(over).await?;
            over.deleted = true;
        }
        if over.journalled { Ok(()) } else { Err(Remaining::Exit) }
    }

    /// Holds the id meanwhile, so that a create with this id waits.
    async fn delete_remains(&self, over: &Over) -> Result<(), Remaining> {
        let (mut holder, _messages) = ContainerHandle::new(over.identity.key.clone());
        holder.half_made = true;
        self.registry.hold(&holder).map_err(|_| Remaining::IdInUse)?;
        let deleted = self.delete_over(over).await;
        self.registry.release(&over.identity.key);
        deleted
    }

    async fn delete_over(&self, over: &Over) -> Result<(), Remaining> {
        let claim = match over.ended {
            true => Claim::Ended,
            false => Claim::Failed { record: &over.record, taken: false },
        };
        match self.delete(&over.identity, over.record.cgroup.as_ref(), claim).await {
            Err(remaining) if remaining.is_anothers() => Ok(()),
            other => other,
        }
    }
}
