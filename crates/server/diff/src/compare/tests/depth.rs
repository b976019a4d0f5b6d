//! Trees of directories in directories, as containers can make them.

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::*;
use crate::compare::{Upper, depends_on_lower, diff_upper};

/// Makes so many directories in each other.
fn make(root: &Path, depth: usize) {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut here = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = openat(&here, "d", flags, Mode::empty()).unwrap();
    }
}

/// With a stack as threads have that work on layers, and as many descriptors as are to be had.
fn with_room(work: impl FnOnce() + Send) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(8 << 20);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap();
    });
}

#[test]
fn what_lies_too_deep_is_refused_by_name() {
    let (dir, empty) =
        (tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    make(dir.path(), 1001);
    let upper = Upper { root: dir.path().to_owned(), notes: Some("trusted.overlay.") };
    with_room(|| {
        let errors = [
            diff(empty.path(), dir.path(), Vec::new(), &options()).unwrap_err(),
            diff(dir.path(), dir.path(), Vec::new(), &options()).unwrap_err(),
            diff_upper(&upper, Vec::new(), &options()).unwrap_err(),
            depends_on_lower(&upper, &Cancel::default()).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.starts_with("entry \"d/d/"), "{text}");
            assert!(text.ends_with("lies deeper than 1000 directories"), "{text}");
        }
        let cancel = Cancel::default();
        cancel.cancel();
        let error = depends_on_lower(&upper, &cancel).unwrap_err();
        assert!(matches!(error, DiffError::Cancelled), "{error:?}");
    });
}

#[test]
fn what_just_fits_makes_a_layer() {
    let (dir, empty) =
        (tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    make(dir.path(), 1000);
    let upper = Upper { root: dir.path().to_owned(), notes: Some("trusted.overlay.") };
    with_room(|| {
        let layer = archive(empty.path(), dir.path());
        assert_eq!(listed(&layer).len(), 1000);
        let mut same = Vec::new();
        diff_upper(&upper, &mut same, &options()).unwrap();
        assert!(same == layer);
    });
}
