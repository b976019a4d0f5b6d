//! Shims, one of which is started ahead: the next process need not wait for it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gantry_disk::MayWait;
use gantry_failpoints::{Point, reach};
use gantry_kernel::{Reaper, cgroup::ShimCgroup};
use gantry_runtime::{step, traced};
use tokio::runtime::Handle;

use crate::{
    SupervisorError,
    shim_link::{ShimProgram, StartedShim},
    state_dir::{NewProcessDirs, ProcessDir, ProcessRecord, StateError},
};

/// Starts shims.
pub(crate) struct ShimPool {
    program: ShimProgram,
    reaper: Reaper,
    dirs: NewProcessDirs,
    cgroup: ShimCgroup,
    spare: Mutex<Option<IdleShim>>,
    /// An idle shim is being started.
    is_starting: AtomicBool,
}

/// An idle shim in `new/<n>/`. A launch renames that directory into place. The shim exits with the server.
struct IdleShim {
    shim: StartedShim,
    dir: ProcessDir,
}

/// A shim at work in the directory of its process.
pub(crate) struct PlacedShim<'a> {
    pub(crate) shim: StartedShim,
    pub(crate) dir: &'a ProcessDir,
}

impl ShimPool {
    /// Shims are started in `dirs`, and counted in `cgroup`.
    pub(crate) fn new(
        program: ShimProgram,
        reaper: Reaper,
        dirs: NewProcessDirs,
        cgroup: ShimCgroup,
    ) -> Arc<Self> {
        let (spare, is_starting) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { program, reaper, dirs, cgroup, spare, is_starting })
    }

    pub(crate) fn program(&self) -> &ShimProgram {
        &self.program
    }

    /// Makes the directory of a process, with a shim at work in it; `then` adds to it.
    pub(crate) async fn place<'a>(
        self: &Arc<Self>,
        dir: &'a ProcessDir,
        record: ProcessRecord,
        then: impl FnOnce(&ProcessDir, &MayWait) -> Result<(), StateError> + Send + 'static,
    ) -> Result<PlacedShim<'a>, SupervisorError> {
        traced(step("shim"), self.place_idle(dir, record, then)).await
    }

    async fn place_idle<'a>(
        self: &Arc<Self>,
        dir: &'a ProcessDir,
        record: ProcessRecord,
        then: impl FnOnce(&ProcessDir, &MayWait) -> Result<(), StateError> + Send + 'static,
    ) -> Result<PlacedShim<'a>, SupervisorError> {
        let IdleShim { shim, dir: new } = match self.take_spare().await {
            Some(spare) => spare,
            None => self.start().await?,
        };
        let place = dir.clone();
        let placed = new.run(move |new, wait| {
            new.write(&record, wait)?;
            reach(Point::ServerProcessRecorded);
            new.move_to(&place, wait)?;
            then(&place, wait)
        });
        match placed.await {
            Ok(()) => Ok(PlacedShim { shim, dir }),
            Err(error) => {
                IdleShim { shim, dir: new }.discard().await;
                Err(error.into())
            }
        }
    }

    /// Has an idle shim started, unless there is one.
    pub(crate) fn start_spare(self: &Arc<Self>) {
        if self.lock().is_some() || self.is_starting.swap(true, Ordering::Relaxed) {
            return;
        }
        let shims = Arc::clone(self);
        tokio::spawn(async move {
            let started = shims.start().await;
            // First: whoever takes the idle shim at once asks for another.
            shims.is_starting.store(false, Ordering::Relaxed);
            match started {
                Ok(spare) => *shims.lock() = Some(spare),
                Err(error) => tracing::debug!(%error, "no shim is started ahead"),
            }
        });
    }

    /// An idle shim that works: one that has sent something before its order is broken.
    async fn take_spare(&self) -> Option<IdleShim> {
        let spare = self.lock().take()?;
        if spare.shim.link.is_silent() {
            return Some(spare);
        }
        spare.discard().await;
        None
    }

    /// Fork and exec must not run on a worker that other tasks wait for, either.
    async fn start(self: &Arc<Self>) -> Result<IdleShim, SupervisorError> {
        let (shims, runtime) = (Arc::clone(self), Handle::current());
        let started = self.dirs.run(move |wait| {
            let _inside = runtime.enter();
            shims.start_now(wait)
        });
        started.await
    }

    fn start_now(&self, wait: &MayWait) -> Result<IdleShim, SupervisorError> {
        let dir = self.dirs.create(wait)?;
        match self.program.start(&self.reaper, dir.path()) {
            Ok(shim) => {
                if let Err(error) = self.cgroup.take_in(shim.pid) {
                    tracing::warn!(shim = shim.pid, %error, "a shim stays in the server's cgroup, whose limits apply to it");
                }
                Ok(IdleShim { shim, dir })
            }
            Err(cause) => {
                if let Err(error) = dir.remove(wait) {
                    tracing::error!(%error, "a directory for a process is left; the next start of gantryd removes it");
                }
                Err(SupervisorError::StartShim { path: self.program.path.clone(), cause })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<IdleShim>> {
        // It is whole after any panic: each change to it is a single call.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleShim {
    async fn discard(self) {
        self.shim.dismiss().await;
        self.dir.discard().await;
    }
}
