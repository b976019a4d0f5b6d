//! One layer at a time is unpacked into a tree. A call that was cancelled may still wait for the disk, and change the
//! tree, when its caller begins again.

use std::{
    collections::HashSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Cancel, DiffError};

/// How often a call that waits looks whether it is cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// A directory, by device and inode: its paths may differ.
type Tree = (u64, u64);

/// The trees that layers are unpacked into.
static BUSY: LazyLock<Mutex<HashSet<Tree>>> = LazyLock::new(Mutex::default);
static ENDED: Condvar = Condvar::new();

/// No other layer is unpacked into the tree as long as this is there.
#[derive(Debug)]
pub(super) struct Alone(Tree);

/// Waits until no other layer is unpacked into the tree.
pub(super) fn alone(root: &Path, cancel: &Cancel) -> Result<Alone, DiffError> {
    let found =
        fs::metadata(root).map_err(DiffError::io("look at", root.as_os_str().as_bytes()))?;
    let tree = (found.dev(), found.ino());
    let mut busy = lock();
    while !busy.insert(tree) {
        cancel.check()?;
        let woken = ENDED.wait_timeout(busy, LOOK);
        (busy, _) = woken.unwrap_or_else(PoisonError::into_inner);
    }
    Ok(Alone(tree))
}

fn lock() -> MutexGuard<'static, HashSet<Tree>> {
    // Nothing panics while it is held.
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Alone {
    fn drop(&mut self) {
        lock().remove(&self.0);
        ENDED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn the_next_waits_for_the_end_of_the_one_before() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = alone(dir.path(), &Cancel::default()).unwrap();
        drop(alone(other.path(), &Cancel::default()).unwrap());
        let cancelled = Cancel::default();
        cancelled.cancel();
        assert!(matches!(alone(dir.path(), &cancelled), Err(DiffError::Cancelled)));
        let (entered, seen) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let next = alone(&dir.path().join("."), &Cancel::default()).unwrap();
                entered.send("next").unwrap();
                drop(next);
            });
            entered.send("first").unwrap();
            drop(first);
        });
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["first", "next"]);
    }
}
