//! Shims, one of which is started ahead: the next process need not wait for it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gantry_failpoints::{Point, reach};

use super::SupervisorError;
use crate::{
    cgroup::ShimCgroup,
    shim_link::{ShimProgram, StartedShim},
    state_dir::{NewProcessDirs, ProcessDir, ProcessRecord},
    sys::Reaper,
};

/// Starts shims.
pub(crate) struct Shims {
    program: ShimProgram,
    reaper: Reaper,
    dirs: NewProcessDirs,
    cgroup: ShimCgroup,
    spare: Mutex<Option<SpareShim>>,
    /// A spare one is being started.
    coming: AtomicBool,
}

/// A shim that waits for its orders, in a directory that has yet to find its place. It leaves when
/// the server does.
struct SpareShim {
    shim: StartedShim,
    dir: ProcessDir,
}

impl Shims {
    /// Shims are started in `dirs`, and counted in `cgroup`.
    pub(crate) fn new(
        program: ShimProgram,
        reaper: Reaper,
        dirs: NewProcessDirs,
        cgroup: ShimCgroup,
    ) -> Self {
        Self {
            program,
            reaper,
            dirs,
            cgroup,
            spare: Mutex::default(),
            coming: AtomicBool::new(false),
        }
    }

    /// Makes the directory of a process, with a shim at work in it.
    pub(super) async fn place(
        &self,
        dir: &ProcessDir,
        record: &ProcessRecord,
    ) -> Result<StartedShim, SupervisorError> {
        let SpareShim { shim, dir: new } = match self.take_spare().await {
            Some(spare) => spare,
            None => self.start()?,
        };
        let placed = new.write(record).and_then(|()| {
            reach(Point::ServerProcessRecorded);
            new.move_to(dir)
        });
        match placed {
            Ok(()) => Ok(shim),
            Err(error) => {
                SpareShim { shim, dir: new }.discard().await;
                Err(error.into())
            }
        }
    }

    /// Starts a spare one, unless there is one.
    pub(super) fn start_spare(self: &Arc<Self>) {
        let shims = Arc::clone(self);
        // Neither a fork nor an exec is for a thread that other tasks wait for.
        tokio::task::spawn_blocking(move || shims.fill());
    }

    fn fill(&self) {
        if self.coming.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.lock().is_none() {
            match self.start() {
                Ok(spare) => *self.lock() = Some(spare),
                Err(error) => tracing::debug!(%error, "no shim is started ahead"),
            }
        }
        self.coming.store(false, Ordering::SeqCst);
    }

    /// One that is well: it has nothing to say before it has orders.
    async fn take_spare(&self) -> Option<SpareShim> {
        let spare = self.lock().take()?;
        if spare.shim.link.is_silent() {
            return Some(spare);
        }
        spare.discard().await;
        None
    }

    fn start(&self) -> Result<SpareShim, SupervisorError> {
        let dir = self.dirs.create()?;
        match self.program.start(&self.reaper, dir.path()) {
            Ok(shim) => {
                if let Err(error) = self.cgroup.take_in(shim.pid) {
                    tracing::warn!(shim = shim.pid, %error, "the server's limits hold for a shim");
                }
                Ok(SpareShim { shim, dir })
            }
            Err(source) => {
                remove(&dir);
                Err(SupervisorError::StartShim { path: self.program.path.clone(), source })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SpareShim>> {
        // It is whole after any panic: each change to it is a single call.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpareShim {
    async fn discard(self) {
        self.shim.dismiss().await;
        remove(&self.dir);
    }
}

fn remove(dir: &ProcessDir) {
    if let Err(error) = dir.remove() {
        tracing::error!(%error, "leaves files behind");
    }
}
