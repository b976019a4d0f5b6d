//! What is unmounted, and what is not.

use super::*;
use crate::mount::place::Place;

#[test]
fn everything_below_and_nothing_beside() {
    with_bundle(|bundle| {
        let tmpfs = || a("tmpfs", "tmpfs", &[]);
        bundle.dir("rootfs2");
        bundle.dir("other");
        mount_all(&[tmpfs()], &bundle.dir.join("rootfs2")).unwrap();
        bundle.mount(&[tmpfs()]).unwrap();
        fs::create_dir_all(bundle.rootfs().join("a b/c\\d")).unwrap();
        bundle.mount(&[at("a b", tmpfs())]).unwrap();
        fs::create_dir_all(bundle.rootfs().join("a b/c\\d\n")).unwrap();
        bundle.mount(&[at("a b/c\\d\n", tmpfs()), at("a b/c\\d\n", tmpfs())]).unwrap();
        assert_eq!(bundle.mounted().len(), 4);
        bundle.unmount().unwrap();
        assert_eq!(bundle.mounted().len(), 0);
        assert_eq!(mounted_in(&bundle.dir).unwrap().len(), 2);
        // Nothing is mounted, and the path does not even exist.
        bundle.unmount().unwrap();
        unmount_all(&bundle.dir.join("missing/rootfs")).unwrap();
        fs::write(bundle.dir.join("file"), "").unwrap();
        unmount_all(&bundle.dir.join("file/rootfs")).unwrap();
    });
}

#[test]
fn mounts_that_others_hide() {
    with_bundle(|bundle| {
        let tmpfs = || a("tmpfs", "tmpfs", &[]);
        bundle.mount(&[tmpfs()]).unwrap();
        fs::create_dir_all(bundle.rootfs().join("a/b")).unwrap();
        bundle.mount(&[at("a/b", tmpfs()), at("a", tmpfs()), tmpfs(), tmpfs()]).unwrap();
        assert_eq!(bundle.mounted().len(), 5);
        bundle.unmount().unwrap();
        assert_eq!(bundle.mounted().len(), 0);
    });
}

#[test]
fn many_on_each_other() {
    with_bundle(|bundle| {
        let tmpfs = a("tmpfs", "tmpfs", &[]);
        bundle.mount(&vec![tmpfs; 40]).unwrap();
        assert_eq!(bundle.mounted().len(), 40);
        bundle.unmount().unwrap();
        assert_eq!(bundle.mounted().len(), 0);
    });
}

#[test]
fn one_in_use_is_detached() {
    with_bundle(|bundle| {
        bundle.mount(&[a("tmpfs", "tmpfs", &[])]).unwrap();
        let file = bundle.rootfs().join("a");
        fs::write(&file, "kept").unwrap();
        let mut open = fs::File::open(&file).unwrap();
        bundle.unmount().unwrap();
        assert_eq!(bundle.mounted().len(), 0);
        assert!(!file.exists());
        assert_eq!(std::io::read_to_string(&mut open).unwrap(), "kept");
    });
}

#[test]
fn a_link_is_not_followed() {
    with_bundle(|bundle| {
        let tmpfs = || a("tmpfs", "tmpfs", &[]);
        let elsewhere = bundle.dir("elsewhere");
        mount_all(&[tmpfs()], Path::new(&elsewhere)).unwrap();
        symlink(&elsewhere, bundle.dir.join("link")).unwrap();
        unmount_all(&bundle.dir.join("link")).unwrap();
        assert_eq!(mounted_in(Path::new(&elsewhere)).unwrap().len(), 1);
        // The directory that the path is in may be reached by one.
        symlink(&bundle.dir, bundle.dir.join("here")).unwrap();
        unmount_all(&bundle.dir.join("here/elsewhere")).unwrap();
        assert_eq!(mounted_in(Path::new(&elsewhere)).unwrap().len(), 0);
    });
}

#[test]
fn a_missing_path_has_nothing_to_unmount() {
    for path in ["/", "", "relative/rootfs", "/tmp/.."] {
        let error = unmount_all(Path::new(path)).unwrap_err();
        assert!(matches!(error, UnmountError::NotAPlace { .. }), "{path}: {error}");
    }
}

/// Of a file that something is mounted on, there is no directory to go through.
#[test]
fn a_bind_of_a_file() {
    with_bundle(|bundle| {
        let source = format!("{}/a", bundle.file("source", "a"));
        fs::write(bundle.rootfs().join("hosts"), "below").unwrap();
        bundle.mount(&[at("hosts", a("bind", &source, &["bind", "ro"]))]).unwrap();
        assert_eq!(bundle.seen("hosts"), "source");
        assert_eq!(errno(bundle.rootfs().join("hosts")), Errno::EROFS);
        bundle.unmount().unwrap();
        assert_eq!(bundle.seen("hosts"), "below");
    });
}

#[test]
fn mounts_on_a_place_are_detached_by_its_descriptor() {
    with_bundle(|bundle| {
        let place = Place::open(&bundle.rootfs(), "").unwrap();
        bundle.mount(&[a("tmpfs", "tmpfs", &[]), a("tmpfs", "tmpfs", &[])]).unwrap();
        for left in [1, 0, 0] {
            place.uncover().unwrap();
            assert_eq!(bundle.mounted().len(), left);
        }
    });
}
