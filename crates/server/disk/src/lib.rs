//! Access to files that somebody else may hold up: a caller's path may lead to a network file system
//! whose server is gone, and reading there can last for ever.
//!
//! Such work runs on plain threads, a few for each file system, and its caller waits no longer than
//! 10 s. A thread that never comes back counts for its own file system only, so that a dead
//! mount delays nothing but what is on it. Which file system a path leads to is known without
//! touching it: the mount table says so for every prefix of the path, and each symbolic link is
//! read by a thread of the file system that the link is on.
//!
//! The server's own files have threads of their own, without a deadline; see [`OwnFiles`].

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod error;
mod lane;
mod mounts;
mod own;
mod read;
mod walk;

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use error::DiskError;
pub use lane::MeasuredThreads;
use lane::{Lane, Refused};
use mounts::{Device, MountTable, Mounts};
pub use own::{MayWait, OwnFiles};
pub use read::{ReadError, read_regular};
use tokio::{sync::oneshot, time::Instant};
use walk::{Step, Walk};

/// How long a call may take, from its start to its end.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// How long reading the mount table may take; after that, the one that was read before is used.
const MOUNTS_DEADLINE: Duration = Duration::from_secs(2);

/// The threads of all file systems. Clones are the same.
#[derive(Clone)]
pub struct Disks(Arc<Shared>);

struct Shared {
    mounts: tokio::sync::Mutex<Mounts>,
    /// Reads the mount table.
    reader: Lane,
    lanes: Mutex<HashMap<Device, Lane>>,
}

/// What has become of work while its path was followed.
enum Outcome<T, W> {
    Done(T),
    /// A link led to another file system: a thread of that one goes on.
    Elsewhere(Walk, W),
}

impl Disks {
    /// # Errors
    /// If the mount table cannot be read.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            mounts: tokio::sync::Mutex::new(Mounts::open()?),
            reader: Lane::default(),
            lanes: Mutex::default(),
        })))
    }

    /// Runs work on a path, named `what`, on threads that block nobody else. A result after the deadline is
    /// dropped.
    pub async fn run<T, W>(&self, what: &'static str, path: &Path, work: W) -> Result<T, DiskError>
    where
        T: Send + 'static,
        W: FnOnce(&Path) -> T + Send + 'static,
    {
        let late = || DiskError::Deadline { what, path: path.to_owned(), after: DEADLINE };
        let failed = |cause| DiskError::refused(what, path, cause);
        let deadline = Instant::now() + DEADLINE;
        let mounts = self.mounts().await;
        let mut walk = Walk::new(&mounts, path);
        let mut work = work;
        loop {
            let (reply, answer) = oneshot::channel();
            let (table, to) = (Arc::clone(&mounts), path.to_owned());
            let lane = self.lane(walk.device());
            let job = move || match walk.go(&table) {
                Step::Arrived => Outcome::Done(work(&to)),
                Step::Crossed(walk) => Outcome::Elsewhere(walk, work),
            };
            lane.push(reply, job).map_err(failed)?;
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Outcome::Done(done))) => return Ok(done),
                Ok(Ok(Outcome::Elsewhere(further, rest))) => (walk, work) = (further, rest),
                Ok(Err(_)) => return Err(failed(Refused::Lost)),
                Err(_) => return Err(late()),
            }
        }
    }

    /// The mounts as they are now. Calls meanwhile wait for the read that is under way: a mount
    /// that is not known yet would be taken for a directory of another file system.
    async fn mounts(&self) -> Arc<MountTable> {
        let mut mounts = self.0.mounts.lock().await;
        if mounts.have_changed() {
            let (reply, answer) = oneshot::channel();
            let read = mounts.reader();
            let pushed = self.0.reader.push(reply, move || read.table());
            let answer = tokio::time::timeout(MOUNTS_DEADLINE, answer);
            match (pushed, answer.await) {
                (Ok(()), Ok(Ok(Ok(table)))) => mounts.set(table),
                (_, outcome) => tracing::warn!(?outcome, "cannot read the mount table"),
            }
        }
        mounts.table()
    }

    /// The threads of all file systems together.
    pub fn measure(&self) -> MeasuredThreads {
        let mut all = MeasuredThreads::default();
        self.lanes().values().for_each(|lane| all += lane.measure());
        all
    }

    fn lane(&self, device: Device) -> Lane {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(&device) {
            return lane.clone();
        }
        lanes.retain(|_, lane| !lane.is_idle());
        lanes.entry(device).or_default().clone()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Device, Lane>> {
        // The map is whole after any panic: each change to it is a single call.
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
