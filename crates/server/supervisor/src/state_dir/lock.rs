//! Locks the state directory against a second server.

use std::{fs::File, io, sync::mpsc, thread, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// How long the lock may outlive a server that was killed. It is also held by a child that has not
/// become a shim or runtime yet (it is closed on exec), which takes a moment on a busy host, and by a
/// server with a thread in the kernel that cannot be interrupted (`cgroup/rcu_warmup.rs`).
const PATIENCE: Duration = Duration::from_secs(2);

/// `None` if another server holds it. An error if it cannot be waited for.
pub(super) fn lock(file: File) -> io::Result<Option<Flock<File>>> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(Some(lock)),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(errno.into()),
    };
    let (locked, waiting) = mpsc::channel();
    // flock(2) waits without a limit. If the server gives up, it ends, and this thread with it.
    thread::Builder::new().spawn(move || {
        let _ = locked.send(Flock::lock(file, FlockArg::LockExclusive));
    })?;
    match waiting.recv_timeout(PATIENCE) {
        Ok(Ok(lock)) => Ok(Some(lock)),
        Ok(Err((_, errno))) => Err(errno.into()),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_released_soon_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock(File::create(&path).unwrap()).unwrap().unwrap();
        let second = thread::spawn({
            let file = File::open(&path).unwrap();
            move || lock(file).unwrap().is_some()
        });
        thread::sleep(Duration::from_millis(50));
        drop(first);
        assert!(second.join().unwrap());
    }

    #[test]
    fn a_lock_that_stays_is_anothers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _first = lock(File::create(&path).unwrap()).unwrap().unwrap();
        assert!(lock(File::open(&path).unwrap()).unwrap().is_none());
    }
}
