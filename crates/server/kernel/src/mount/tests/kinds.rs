//! What is mounted, and with which options.

use super::*;
use crate::mount::options::{OF_A_MOUNT, from_statvfs};

#[test]
fn a_bind_shows_its_source() {
    with_bundle(|bundle| {
        let source = bundle.file("snapshot", "a");
        bundle.mount(&[a("bind", &source, &["rbind", "rw"])]).unwrap();
        fs::write(bundle.rootfs().join("b"), "written").unwrap();
        assert_eq!(fs::read_to_string(Path::new(&source).join("b")).unwrap(), "written");
        bundle.unmount().unwrap();
        assert_eq!(fs::read_dir(bundle.rootfs()).unwrap().count(), 0);
        // By its type alone too.
        bundle.mount(&[a("bind", &source, &[])]).unwrap();
        assert_eq!(bundle.seen("a"), "snapshot");
    });
}

#[test]
fn a_bind_is_recursive_if_wanted_so() {
    with_bundle(|bundle| {
        let source = bundle.dir("outer");
        bundle.dir("outer/inner");
        bundle.file("other", "a");
        mount_all(&[a("bind", &bundle.dir("other"), &[])], &Path::new(&source).join("inner"))
            .unwrap();
        for (options, mounts) in [(&["bind"], 1), (&["rbind"], 2)] {
            bundle.mount(&[a("", &source, options)]).unwrap();
            assert_eq!(bundle.mounted().len(), mounts);
            bundle.unmount().unwrap();
        }
        // The source's own mount is still there.
        assert!(Path::new(&source).join("inner/a").exists());
    });
}

#[test]
fn read_only_is_read_only() {
    with_bundle(|bundle| {
        let source = bundle.file("snapshot", "a");
        let lower = bundle.file("lower", "b");
        let overlay = ["lowerdir=", &source, ":", &lower].concat();
        for mount in [
            a("bind", &source, &["ro", "rbind"]),
            a("overlay", "overlay", &[&overlay]),
            a("tmpfs", "tmpfs", &["ro"]),
        ] {
            bundle.mount(std::slice::from_ref(&mount)).unwrap();
            assert_eq!(errno(bundle.rootfs().join("a")), Errno::EROFS, "{mount:?}");
            bundle.unmount().unwrap();
        }
        // The source of the bind is not.
        fs::write(Path::new(&source).join("a"), "x").unwrap();
    });
}

#[test]
fn a_bind_keeps_the_flags_of_its_source() {
    with_bundle(|bundle| {
        let source = bundle.dir("source");
        let flags = ["nosuid", "nodev", "noexec", "noatime"];
        mount_all(&[a("tmpfs", "tmpfs", &flags)], Path::new(&source)).unwrap();
        bundle.mount(&[a("bind", &source, &["bind", "ro"])]).unwrap();
        let line = bundle.line("");
        assert!(line.contains(" ro,nosuid,nodev,noexec,noatime "), "{line}");
        bundle.unmount().unwrap();
        // Unless the options say otherwise.
        bundle.mount(&[a("bind", &source, &["bind", "exec", "suid", "strictatime"])]).unwrap();
        let line = bundle.line("");
        assert!(line.contains(" rw,nodev "), "{line}");
    });
}

#[test]
fn mounts_lie_on_each_other_in_their_order() {
    with_bundle(|bundle| {
        let (lower, upper) = (bundle.file("lower", "a"), bundle.dir("upper"));
        bundle.dir("lower/run");
        let work = bundle.dir("work");
        let dirs = [&lower, &upper, &work];
        let dirs: Vec<String> = ["lowerdir", "upperdir", "workdir"]
            .iter()
            .zip(dirs)
            .map(|(key, dir)| format!("{key}={dir}"))
            .collect();
        let options = [&*dirs[0], &dirs[1], &dirs[2], "index=off", "X-containerd.note=1"];
        bundle
            .mount(&[
                a("overlay", "overlay", &options),
                at("run", a("tmpfs", "tmpfs", &["size=64k", "nosuid"])),
                at("/run", a("tmpfs", "above", &["mode=700"])),
                a("none", "none", &["remount", "bind", "ro"]),
            ])
            .unwrap();
        assert_eq!(bundle.seen("a"), "lower");
        assert_eq!(bundle.mounted().len(), 3);
        assert!(bundle.line("run").contains("above"));
        assert_eq!(errno(bundle.rootfs().join("b")), Errno::EROFS);
        fs::write(bundle.rootfs().join("run/b"), "x").unwrap();
    });
}

#[test]
fn propagation() {
    with_bundle(|bundle| {
        let source = bundle.dir("source");
        for (option, shown) in
            [("rshared", " shared:"), ("private", " - tmpfs"), ("unbindable", " unbindable - ")]
        {
            bundle.mount(&[a("bind", &source, &["bind", "noexec", option])]).unwrap();
            let line = bundle.line("");
            assert!(line.contains(shown) && line.contains("noexec"), "{option}: {line}");
            assert_eq!(line.contains("shared"), option == "rshared", "{line}");
            bundle.unmount().unwrap();
        }
        bundle.mount(&[a("tmpfs", "tmpfs", &["shared", "rslave"])]).unwrap();
        assert!(!bundle.line("").contains("shared"), "{}", bundle.line(""));
    });
}

#[test]
fn the_last_option_counts() {
    let parse = |options: &[&str]| Options::parse(&a("bind", "/a", options)).unwrap();
    let options = parse(&["ro", "rw", "defaults", "", "X-containerd.x", "noatime", "mode=1", "x"]);
    assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_NOATIME);
    assert_eq!(options.cleared, MsFlags::MS_RDONLY);
    assert_eq!(options.data, ["mode=1", "x"]);
    let there = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_RELATIME;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID;
    assert_eq!(options.of_a_bind(there), Some(flags));
    // Nothing to change, whatever flags the mount has.
    assert_eq!(parse(&["rbind"]).of_a_bind(OF_A_MOUNT), None);
    let none = nix::sys::statvfs::FsFlags::empty();
    assert_eq!(from_statvfs(none), MsFlags::MS_STRICTATIME);
}
