//! Shims, one of which is started ahead: the next process need not wait for it.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use gantry_failpoints::{Point, reach};
use gantry_kernel::{Reaper, cgroup::ShimCgroup};
use tokio::runtime::Handle;

use crate::{
    SupervisorError,
    shim_link::{ShimProgram, StartedShim},
    state_dir::{NewProcessDirs, ProcessDir, ProcessRecord},
};

/// Starts shims.
pub(crate) struct ShimPool {
    program: ShimProgram,
    reaper: Reaper,
    dirs: NewProcessDirs,
    cgroup: ShimCgroup,
    spare: Mutex<Option<IdleShim>>,
    /// Asks the thread that starts them for a spare one.
    wanted: SyncSender<()>,
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
    ///
    /// Also starts the thread that starts shims ahead (later there may be no thread left): fork and exec must
    /// not run on a worker that other tasks wait for. To be called inside the runtime.
    pub(crate) fn new(
        program: ShimProgram,
        reaper: Reaper,
        dirs: NewProcessDirs,
        cgroup: ShimCgroup,
    ) -> io::Result<Arc<Self>> {
        let (wanted, wants) = sync_channel(1);
        let shims =
            Arc::new(Self { program, reaper, dirs, cgroup, spare: Mutex::default(), wanted });
        let (runtime, this) = (Handle::current(), Arc::downgrade(&shims));
        let thread = thread::Builder::new().name("shims".to_owned());
        // Ends with `Shims`. A panic in it ends the server.
        thread.spawn(move || {
            let _inside = runtime.enter();
            start_ahead(&this, &wants);
        })?;
        Ok(shims)
    }

    pub(crate) fn program(&self) -> &ShimProgram {
        &self.program
    }

    /// Makes the directory of a process, with a shim at work in it.
    pub(crate) async fn place<'a>(
        &self,
        dir: &'a ProcessDir,
        record: &ProcessRecord,
    ) -> Result<PlacedShim<'a>, SupervisorError> {
        let IdleShim { shim, dir: new } = match self.take_spare().await {
            Some(spare) => spare,
            None => self.start()?,
        };
        let placed = new.write(record).and_then(|()| {
            reach(Point::ServerProcessRecorded);
            new.move_to(dir)
        });
        match placed {
            Ok(()) => Ok(PlacedShim { shim, dir }),
            Err(error) => {
                IdleShim { shim, dir: new }.discard().await;
                Err(error.into())
            }
        }
    }

    /// Has a spare one started, unless there is one.
    pub(crate) fn start_spare(&self) {
        // If it is full, one is on its way.
        let _ = self.wanted.try_send(());
    }

    fn fill(&self) {
        if self.lock().is_none() {
            match self.start() {
                Ok(spare) => *self.lock() = Some(spare),
                Err(error) => tracing::debug!(%error, "no shim is started ahead"),
            }
        }
    }

    /// One that is well: it has nothing to say before it has orders.
    async fn take_spare(&self) -> Option<IdleShim> {
        let spare = self.lock().take()?;
        if spare.shim.link.is_silent() {
            return Some(spare);
        }
        spare.discard().await;
        None
    }

    fn start(&self) -> Result<IdleShim, SupervisorError> {
        let dir = self.dirs.create()?;
        match self.program.start(&self.reaper, dir.path()) {
            Ok(shim) => {
                if let Err(error) = self.cgroup.take_in(shim.pid) {
                    tracing::warn!(shim = shim.pid, %error, "the server's limits hold for a shim");
                }
                Ok(IdleShim { shim, dir })
            }
            Err(cause) => {
                dir.discard();
                Err(SupervisorError::StartShim { path: self.program.path.clone(), cause })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<IdleShim>> {
        // It is whole after any panic: each change to it is a single call.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start_ahead(shims: &Weak<ShimPool>, wants: &Receiver<()>) {
    while wants.recv().is_ok()
        && let Some(shims) = shims.upgrade()
    {
        shims.fill();
    }
}

impl IdleShim {
    async fn discard(self) {
        self.shim.dismiss().await;
        self.dir.discard();
    }
}
