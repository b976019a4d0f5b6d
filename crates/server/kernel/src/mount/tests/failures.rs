//! Mounts that cannot be made, and what is left of those before.

use super::*;

#[test]
fn those_before_a_failure_are_unmounted() {
    with_bundle(|bundle| {
        let source = bundle.file("source", "a");
        bundle.dir("source/inner");
        let error = bundle
            .mount(&[
                a("bind", &source, &["rbind"]),
                at("inner", a("tmpfs", "tmpfs", &[])),
                a("bind", "/does/not/exist", &["rbind", "ro"]),
                a("tmpfs", "tmpfs", &[]),
            ])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot mount number 3 (type \"bind\", source \"/does/not/exist\"): \
             mount: No such file or directory (os error 2)"
        );
        assert_eq!(error.mount.number, 3);
        assert_eq!(error.left, []);
        assert!(!error.is_scarce());
        assert_eq!(bundle.mounted().len(), 0);
        assert!(Path::new(&source).join("a").exists());
    });
}

/// What was mounted there before stays.
#[test]
fn only_what_was_mounted_is_unmounted() {
    with_bundle(|bundle| {
        bundle.mount(&[a("tmpfs", "before", &[])]).unwrap();
        bundle.mount(&[a("tmpfs", "tmpfs", &[]), a("nonsense", "x", &[])]).unwrap_err();
        assert_eq!(bundle.mounted().len(), 1);
        assert!(bundle.line("").contains("before"));
    });
}

#[test]
fn what_is_not_supported_says_so() {
    for (kind, option, word) in
        [("ext4", "loop", "\"loop\""), ("fuse3.fuse-overlayfs", "rw", "mount.fuse3")]
    {
        let error = mount_all(&[a(kind, "/x", &[option])], Path::new("/nowhere")).unwrap_err();
        assert!(matches!(error.problem, MountProblem::Unsupported(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("not supported"), "{text}");
    }
}

#[test]
fn a_target_leads_nowhere_else() {
    with_bundle(|bundle| {
        let source = bundle.dir("source");
        bundle.dir("source/etc");
        bundle.dir("outside");
        let outside = bundle.dir.join("outside");
        symlink(&outside, Path::new(&source).join("away")).unwrap();
        symlink("../../../../../../etc", Path::new(&source).join("up")).unwrap();
        symlink("/etc", Path::new(&source).join("absolute")).unwrap();
        let bind = a("bind", &source, &["bind"]);
        for target in ["up", "absolute", "../../etc", "/etc", "etc/../../../etc"] {
            let below = at(target, a("tmpfs", "tmpfs", &[]));
            bundle.mount(&[bind.clone(), below]).unwrap();
            assert!(bundle.line("etc").contains("tmpfs tmpfs"), "{target}");
            assert_eq!(bundle.mounted().len(), 2);
            bundle.unmount().unwrap();
        }
        for target in ["away", "missing", "missing/../etc"] {
            let below = at(target, a("tmpfs", "tmpfs", &[]));
            let error = bundle.mount(&[bind.clone(), below]).unwrap_err().to_string();
            assert!(error.contains(target) && error.contains("number 2"), "{error}");
            assert_eq!(bundle.mounted().len(), 0);
        }
        // The file system that is mounted there has no such path.
        bundle.dir("source/etc/deep");
        let below = at("etc/deep/..", a("bind", &bundle.dir("outside"), &["bind", "ro"]));
        bundle.mount(&[bind, below]).unwrap();
        assert_eq!(errno(bundle.rootfs().join("etc/a")), Errno::EROFS);
        assert_eq!(mounted_in(&outside).unwrap().len(), 0);
    });
}

#[test]
fn the_root_file_system_has_to_be_a_directory_of_its_own() {
    with_bundle(|bundle| {
        let elsewhere = bundle.dir("elsewhere");
        symlink(&elsewhere, bundle.dir.join("link")).unwrap();
        fs::write(bundle.dir.join("file"), "").unwrap();
        for place in ["link", "file", "missing"] {
            mount_all(&[a("tmpfs", "tmpfs", &[])], &bundle.dir.join(place)).unwrap_err();
        }
        assert_eq!(mounted_in(&bundle.dir).unwrap().len(), 1);
        // An empty list is fine with anything.
        mount_all(&[], &bundle.dir.join("missing")).unwrap();
    });
}

#[test]
fn text_that_no_path_can_be() {
    with_bundle(|bundle| {
        for mount in [
            a("tmpfs", "a\0b", &[]),
            a("tmp\0fs", "a", &[]),
            a("tmpfs", "a", &["size=\0"]),
            at("\0", a("tmpfs", "a", &[])),
            a("bind", &"x".repeat(5000), &["bind"]),
        ] {
            bundle.mount(&[mount]).unwrap_err();
        }
        assert_eq!(bundle.mounted().len(), 0);
    });
}
