//! Files that have other owners than on the disk.

use std::{
    os::unix::fs::{MetadataExt, chown},
    thread,
};

use super::*;
use crate::mount::check_id_maps;

const MAPS: [&str; 2] = ["uidmap=0:100000:10,10:7:1", "gidmap=0:200000:11"];

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn a_bind_and_the_lower_layers_of_an_overlay_have_other_owners() {
    with_bundle(|bundle| {
        let scratch = bundle.dir("scratch");
        if let Err(why) = check_id_maps(Path::new(&scratch)) {
            assert_eq!(bundle.mounted().len(), 0);
            eprintln!("skipped: no id-mapped mounts here: {why}");
            return;
        }
        let lower = bundle.file("lower", "a");
        bundle.file("lower2", "b");
        chown(Path::new(&lower).join("a"), Some(10), Some(10)).unwrap();
        let seen = |name: &str| owner(&bundle.rootfs().join(name));
        for kind in ["bind", "rbind"] {
            bundle.mount(&[a(kind, &lower, &[MAPS[0], MAPS[1], "ro"])]).unwrap();
            assert_eq!((seen("a"), seen("")), ((7, 200_010), (100_000, 200_000)));
            assert_eq!(errno(bundle.rootfs().join("new")), Errno::EROFS);
            bundle.unmount().unwrap();
        }
        let [upper, work, second] = ["upper", "work", "lower2"].map(|name| bundle.dir(name));
        let options = [
            MAPS[0].to_owned(),
            MAPS[1].to_owned(),
            format!("workdir={work}"),
            format!("upperdir={upper}"),
            format!("lowerdir={lower}:{second}"),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        bundle.mount(&[a("overlay", "overlay", &options)]).unwrap();
        assert_eq!((seen("a"), seen("b")), ((7, 200_010), (100_000, 200_000)));
        // What is written has the writer's ids, and what was there keeps those that were seen.
        fs::write(bundle.rootfs().join("new"), "").unwrap();
        fs::write(bundle.rootfs().join("a"), "changed").unwrap();
        let on_disk = |name: &str| owner(&Path::new(&upper).join(name));
        assert_eq!((on_disk("new"), on_disk("a")), ((0, 0), (7, 200_010)));
        assert_eq!(owner(&Path::new(&lower).join("a")), (10, 10));
        // Nothing but the overlay is mounted.
        assert_eq!(bundle.mounted().len(), 1);
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!table.contains(&format!(" {lower} ")), "{table}");
        bundle.unmount().unwrap();
    });
}

#[test]
fn maps_that_are_none_are_refused() {
    with_bundle(|bundle| {
        let source = bundle.dir("source");
        let many = format!("uidmap={}0:0:1", "0:0:1,".repeat(400));
        for (uids, gids) in [
            ("uidmap=0:1:1", ""),
            ("", "gidmap=0:1:1"),
            ("uidmap=", "gidmap=0:1:1"),
            ("uidmap=0:1:0", "gidmap=0:1:1"),
            ("uidmap=0:1", "gidmap=0:1:1"),
            ("uidmap=0:1:1", "gidmap=0:1:-1"),
            ("uidmap=0:1:1,", "gidmap=0:1:1"),
            (&many, "gidmap=0:1:1"),
        ] {
            let error = bundle.mount(&[a("bind", &source, &[uids, gids])]).unwrap_err();
            assert!(matches!(error.problem, MountProblem::Unsupported(_)), "{error}");
        }
        // The kernel refuses ranges that overlap.
        let twice = ["uidmap=0:1:2,1:9:1", "gidmap=0:1:1"];
        bundle.mount(&[a("bind", &source, &twice)]).unwrap_err();
        bundle.mount(&[a("tmpfs", "tmpfs", &["uidmap=0:1:1", "gidmap=0:1:1"])]).unwrap_err();
        let [lower, second] = ["lower", "second"].map(|name| format!("={}", bundle.dir(name)));
        for [one, other] in
            [["lowerdir", "lowerdir"], ["lowerdir", "lowerdir+"], ["datadir+", "lowerdir+"]]
        {
            let [one, other] = [format!("{one}{lower}"), format!("{other}{second}")];
            let options = ["uidmap=0:1:1", "gidmap=0:1:1", &one, &other];
            let error = bundle.mount(&[a("overlay", "overlay", &options)]).unwrap_err();
            assert!(matches!(error.problem, MountProblem::Unsupported(_)), "{error}");
        }
        assert_eq!(bundle.mounted().len(), 0);
    });
}

/// The process that makes the ids must not keep the pipe of another one open.
#[test]
fn mounts_with_ids_are_made_at_once() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let scratch = tempfile::tempdir().unwrap();
                    if let Err(why) = check_id_maps(scratch.path()) {
                        eprintln!("skipped: no id-mapped mounts here: {why}");
                        return;
                    }
                }
            });
        }
    });
}
