//! Locks on directories, which end with their holder: flock(2).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

/// For how long a lock is tried to be had that another command may have taken just to look. There is no bounded wait for one.
const MOMENT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a try to lock a directory.
#[derive(Debug)]
pub(crate) enum Locked {
    /// It is locked until this is dropped.
    Yes(File),
    /// Another command has locked it.
    Busy,
    /// It is not there, or not any more.
    Gone,
}

/// Tries to lock a directory, without waiting for whoever holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Locked> {
    lock_as(path, FlockOperation::NonBlockingLockExclusive)
}

/// Tries to lock a directory for a moment: longer than another command takes that only looks at it, or sweeps.
pub(crate) fn lock_patiently(path: &Path) -> io::Result<Locked> {
    let end = Instant::now() + MOMENT;
    loop {
        match lock(path)? {
            Locked::Busy if Instant::now() < end => thread::sleep(PAUSE),
            locked => return Ok(locked),
        }
    }
}

/// Whether a command has locked a directory. Others that only look are none.
pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
    let looked = lock_as(path, FlockOperation::NonBlockingLockShared)?;
    Ok(matches!(looked, Locked::Busy))
}

fn lock_as(path: &Path, operation: FlockOperation) -> io::Result<Locked> {
    let dir = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
        dir => dir?,
    };
    match flock(&dir, operation) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        result => result?,
    }
    let locked = dir.metadata()?.ino();
    let there = fs::metadata(path).map(|meta| meta.ino());
    Ok(if there.is_ok_and(|ino| ino == locked) { Locked::Yes(dir) } else { Locked::Gone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_does_not_keep_others_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let shared = FlockOperation::NonBlockingLockShared;
        let Locked::Yes(looking) = lock_as(dir.path(), shared).unwrap() else { panic!("locked") };
        assert!(!is_locked(dir.path()).unwrap());
        assert!(matches!(lock(dir.path()).unwrap(), Locked::Busy));
        thread::scope(|scope| {
            let claim = scope.spawn(|| lock_patiently(dir.path()).unwrap());
            drop(looking);
            let locked = claim.join().unwrap();
            assert!(matches!(locked, Locked::Yes(_)), "{locked:?}");
            assert!(is_locked(dir.path()).unwrap());
            assert!(matches!(lock_patiently(dir.path()).unwrap(), Locked::Busy));
        });
        assert!(!is_locked(&dir.path().join("none")).unwrap());
    }
}
