//! Shims, one of which is started ahead: the next process need not wait for it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::SupervisorError;
use crate::{
    shim_link::{ShimProgram, StartedShim},
    state_dir::{NewProcessDirs, ProcessDir, ProcessRecord},
    sys::Reaper,
};

/// Starts shims.
pub(crate) struct Shims {
    program: ShimProgram,
    reaper: Reaper,
    dirs: NewProcessDirs,
    spare: Mutex<Option<WaitingShim>>,
    /// A spare one is being started.
    coming: AtomicBool,
}

/// A shim that waits for its orders, in a directory that has yet to find its place. It leaves when
/// the server does.
struct WaitingShim {
    shim: StartedShim,
    dir: ProcessDir,
}

impl Shims {
    pub(crate) fn new(program: ShimProgram, reaper: Reaper, dirs: NewProcessDirs) -> Self {
        Self { program, reaper, dirs, spare: Mutex::default(), coming: AtomicBool::new(false) }
    }

    /// Makes the directory of a process, with a shim at work in it.
    pub(super) fn place(
        &self,
        dir: &ProcessDir,
        record: &ProcessRecord,
    ) -> Result<StartedShim, SupervisorError> {
        let waiting = match self.take_spare() {
            Some(spare) => spare,
            None => self.start()?,
        };
        match waiting.dir.write(record).and_then(|()| waiting.dir.move_to(dir)) {
            Ok(()) => Ok(waiting.shim),
            Err(error) => {
                waiting.discard();
                Err(error.into())
            }
        }
    }

    /// Starts a spare one, unless there is one.
    pub(super) fn start_ahead(self: &Arc<Self>) {
        let shims = Arc::clone(self);
        // The task that asks has an answer to give meanwhile.
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

    fn take_spare(&self) -> Option<WaitingShim> {
        let mut spare = self.lock().take()?;
        if spare.shim.has_ended() {
            spare.discard();
            return None;
        }
        Some(spare)
    }

    fn start(&self) -> Result<WaitingShim, SupervisorError> {
        let dir = self.dirs.create()?;
        match self.program.start(&self.reaper, dir.path()) {
            Ok(shim) => Ok(WaitingShim { shim, dir }),
            Err(source) => {
                remove(&dir);
                Err(SupervisorError::StartShim { path: self.program.path.clone(), source })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<WaitingShim>> {
        // It is whole after any panic: each change to it is a single call.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingShim {
    fn discard(self) {
        remove(&self.dir);
    }
}

fn remove(dir: &ProcessDir) {
    if let Err(error) = dir.remove() {
        tracing::error!(%error, "leaves files behind");
    }
}
