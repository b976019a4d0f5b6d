//! Threads that work on layers. They wait for disks, and as long as those take.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use gantry_diff::DiffError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The stack of a thread: a walk through a thousand directories in each other has room.
const STACK: usize = 8 << 20;

/// Waits for a turn.
pub(super) async fn turn(turns: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // They are never closed.
    Arc::clone(turns).acquire_owned().await.ok()
}

/// Does work on a thread of its own, which has the turn until it ends, also if this future is dropped.
pub(super) async fn run<T: Send + 'static>(
    turn: Option<OwnedSemaphorePermit>,
    work: impl FnOnce() -> Result<T, DiffError> + Send + 'static,
) -> Result<T, DiffError> {
    let (done, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("layer".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        drop(turn);
        // Whoever wanted it may have gone.
        let _ = done.send(result);
    });
    started.map_err(DiffError::Thread)?;
    match answer.await {
        Ok(Ok(result)) => result,
        // As if the work had been done here.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("the thread answers"),
    }
}
