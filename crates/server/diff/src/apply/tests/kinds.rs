//! Everything that an archive can have, and that its names mean what they mean in a container.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use super::*;

#[test]
fn files_have_their_owners_modes_times_and_attributes() {
    let root = tempfile::tempdir().unwrap();
    let mut file = Tar::header(EntryType::Regular, "file", "", 5);
    file.set_mode(0o6755);
    if is_root() {
        file.set_uid(70_000);
        file.set_gid(4);
    }
    let value = b"\0\n=\xff\n";
    let tar = Tar::default()
        .records(&[
            ("SCHILY.xattr.user.binary", value),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("mtime", b"1000000000.123456789"),
        ])
        .with(file, b"hello")
        .records(&[("mtime", b"1100000000.5")])
        .directory("dir")
        .file("dir/inner", b"")
        .link("dir/same", "file")
        .symlink("link", "/absolute/target");
    assert!(unpack(root.path(), tar).is_ok());
    let file = root.path().join("file");
    let stat = fs::metadata(&file).unwrap();
    // The hard link has nothing of its own, whatever its entry says.
    assert_eq!((stat.mode() & 0o7777, stat.len(), stat.nlink()), (0o6755, 5, 2));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000_000_000, 123_456_789));
    if is_root() {
        assert_eq!((stat.uid(), stat.gid()), (70_000, 4));
    }
    let mut found = vec![0; 16];
    if let Ok(length) = lgetxattr(&file, "user.binary", &mut *found) {
        assert_eq!(&found[..length], value);
    }
    for note in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        assert!(lgetxattr(&file, note, &mut *found).is_err(), "{note}");
    }
    let dir = fs::metadata(root.path().join("dir")).unwrap();
    assert_eq!((dir.mtime(), dir.mtime_nsec()), (1_100_000_000, 500_000_000));
    let link = root.path().join("link");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/absolute/target"));
    assert_eq!(fs::symlink_metadata(&link).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn the_bits_of_a_mode_outlive_the_owner() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut file = Tar::header(EntryType::Regular, "file", "", 0);
    file.set_mode(0o6755);
    file.set_uid(70_000);
    file.set_gid(4);
    // Version 2, with the effective bit, and CAP_NET_BIND_SERVICE.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records = [("SCHILY.xattr.security.capability", &capability[..])];
    let mut device = Tar::header(EntryType::Char, "device", "", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(300).unwrap();
    let mut block = Tar::header(EntryType::Block, "block", "", 0);
    block.set_device_major(7).unwrap();
    block.set_device_minor(1).unwrap();
    let fifo = Tar::header(EntryType::Fifo, "fifo", "", 0);
    // Another name changes nothing of these.
    let tar = Tar::default().records(&records).with(file, b"").link("same", "file");
    let tar = tar.with(device, b"");
    assert!(unpack(root.path(), tar.with(block, b"").with(fifo, b"")).is_ok());
    let at = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap();
    let file = at("file");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o6755, 70_000, 4));
    let mut found = [0; 32];
    if let Ok(length) = lgetxattr(root.path().join("file"), "security.capability", &mut found) {
        assert_eq!(found[..length], capability);
    }
    assert!(at("device").file_type().is_char_device());
    assert_eq!(at("device").rdev(), rustix::fs::makedev(1, 300));
    assert!(at("block").file_type().is_block_device());
    assert!(at("fifo").file_type().is_fifo());
}

#[test]
fn names_may_be_long() {
    let root = tempfile::tempdir().unwrap();
    let (name, other) = (format!("{}/{}", "d".repeat(200), "f".repeat(200)), "g".repeat(250));
    let gnu = |kind: u8, text: &str| {
        (Tar::header(EntryType::new(kind), "long", "", text.len() + 1), format!("{text}\0"))
    };
    let (long, text) = gnu(b'L', &name);
    let (link, target) = gnu(b'K', &name);
    let (again, other_text) = gnu(b'L', &other);
    let tar = Tar::default()
        .with(long, text.as_bytes())
        .file("short", b"1")
        .with(link, target.as_bytes())
        .with(again, other_text.as_bytes())
        .link("short", "short")
        .records(&[("path", b"pax"), ("linkpath", name.as_bytes())])
        .symlink("short", "short");
    assert!(unpack(root.path(), tar).is_ok());
    assert_eq!(read(root.path().join(&name)), "1");
    assert_eq!(read(root.path().join(&other)), "1");
    assert_eq!(fs::read_link(root.path().join("pax")).unwrap(), Path::new(&name));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
}

#[test]
fn directories_are_merged_and_everything_else_replaced() {
    let root = tempfile::tempdir().unwrap();
    let first = Tar::default()
        .directory("d")
        .file("d/kept", b"1")
        .directory("becomes-file")
        .file("becomes-file/x", b"1")
        .file("becomes-dir", b"1")
        .symlink("becomes-other", "d/kept");
    assert!(unpack(root.path(), first).is_ok());
    let second = Tar::default()
        .directory("d")
        .file("d/new", b"2")
        .file("becomes-file", b"2")
        .directory("becomes-dir")
        .file("becomes-other", b"2");
    assert!(unpack(root.path(), second).is_ok());
    assert_eq!(read(root.path().join("d/kept")), "1");
    assert_eq!(read(root.path().join("d/new")), "2");
    assert_eq!(read(root.path().join("becomes-file")), "2");
    assert_eq!(read(root.path().join("becomes-other")), "2");
    assert!(root.path().join("becomes-dir").is_dir());
}

/// As in images where /bin is a link to usr/bin.
#[test]
fn links_to_directories_are_followed_within_the_tree() {
    let root = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .directory("usr")
        .directory("usr/bin")
        .symlink("bin", "usr/bin")
        .symlink("sbin", "/usr/bin")
        .symlink("later", "/made/../made/here")
        .symlink("usr/up", "../usr/./bin/")
        .file("bin/a", b"a")
        .file("sbin/b", b"b")
        .file("later/c", b"c")
        .file("usr/up/d", b"d")
        .link("e", "sbin/a");
    assert!(unpack(root.path(), tar).is_ok());
    for (name, content) in [("usr/bin/a", "a"), ("usr/bin/b", "b"), ("made/here/c", "c")] {
        assert_eq!(read(root.path().join(name)), content);
    }
    assert_eq!(read(root.path().join("usr/bin/d")), "d");
    assert_eq!(read(root.path().join("e")), "a");
}

#[test]
fn parents_are_made_or_copied_from_the_layers_below() {
    let dir = tempfile::tempdir().unwrap();
    let (root, near, far) =
        (dir.path().join("upper"), dir.path().join("near"), dir.path().join("far"));
    for path in [&root, &near.join("a"), &far.join("a/b")] {
        fs::create_dir_all(path).unwrap();
    }
    fs::set_permissions(far.join("a"), PermissionsExt::from_mode(0o1770)).unwrap();
    let has_attributes = lsetxattr(far.join("a"), "user.x", b"1", XattrFlags::empty()).is_ok();
    for name in ["user.y", "user.overlay.opaque"] {
        // Some file systems have no attributes.
        let _ = lsetxattr(near.join("a"), name, b"y", XattrFlags::empty());
    }
    symlink("nowhere", near.join("a/b")).unwrap();
    fs::set_permissions(near.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    let target = upper(&root, &[near, far]);
    assert!(unpack_into(&target, Tar::default().file("a/b/c", b"1")).is_ok());
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    // The nearest one that has it counts, and one that is no directory counts as well.
    assert_eq!((mode("a"), mode("a/b")), (0o700, 0o755));
    let has = |name: &str| lgetxattr(root.join("a"), name, &mut [0_u8; 8]).is_ok();
    assert_eq!(has("user.y"), has_attributes);
    assert!(!has("user.x") && !has("user.overlay.opaque"));
}
