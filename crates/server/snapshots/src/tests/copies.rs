//! Copies of the native snapshotter.

use std::{
    fs::{self, File, Permissions},
    os::unix::{
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
        net::UnixListener,
    },
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, makedev, mknodat};
use tempfile::TempDir;

use super::is_root;
use crate::copy;

fn tree(from: &Path) {
    fs::create_dir_all(from.join("dir/empty")).unwrap();
    fs::write(from.join("dir/file"), "content").unwrap();
    fs::hard_link(from.join("dir/file"), from.join("other name")).unwrap();
    symlink("dir/file", from.join("link")).unwrap();
    lchown(from.join("link"), Some(11), Some(12)).unwrap();
    lchown(from.join("dir/file"), Some(13), Some(14)).unwrap();
    fs::set_permissions(from.join("dir/file"), Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(from.join("dir/empty"), Permissions::from_mode(0o2700)).unwrap();
    lsetxattr(from.join("dir/file"), "trusted.test", b"\0value", XattrFlags::empty()).unwrap();
    lsetxattr(from.join("dir"), "user.test", b"", XattrFlags::empty()).unwrap();
    for (name, kind, dev) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("whiteout", FileType::CharacterDevice, makedev(0, 0)),
        ("pipe", FileType::Fifo, 0),
    ] {
        mknodat(CWD, from.join(name), kind, Mode::from_raw_mode(0o620), dev).unwrap();
    }
    drop(UnixListener::bind(from.join("socket")).unwrap());
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.write_all_at(b"x", 1 << 30).unwrap();
    sparse.set_len(1 << 31).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["dir/file", "dir/empty", "dir"] {
        File::open(from.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
}

#[test]
fn a_copy_is_as_its_original() {
    if !is_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
    tree(&from);
    fs::create_dir(&to).unwrap();
    copy::tree(&from, &to).unwrap();
    let names = [
        "",
        "dir",
        "dir/empty",
        "dir/file",
        "other name",
        "link",
        "null",
        "whiteout",
        "pipe",
        "socket",
        "sparse",
    ];
    for name in names {
        let [a, b] = [&from, &to].map(|top| fs::symlink_metadata(top.join(name)).unwrap());
        let facts = |of: &fs::Metadata| {
            let times = (of.mtime(), of.mtime_nsec());
            (
                of.mode(),
                of.uid(),
                of.gid(),
                of.rdev(),
                of.nlink(),
                times,
                of.is_dir() || of.len() == a.len(),
            )
        };
        assert_eq!(facts(&a), facts(&b), "{name}");
        assert_ne!(a.ino(), b.ino());
    }
    let ino = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
    assert_eq!(ino("dir/file"), ino("other name"));
    assert_eq!(fs::read_to_string(to.join("other name")).unwrap(), "content");
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("dir/file"));
    assert!(fs::metadata(to.join("socket")).unwrap().file_type().is_socket());
    let mut value = [0; 8];
    let length = lgetxattr(to.join("other name"), "trusted.test", &mut value).unwrap();
    assert_eq!(&value[..length], b"\0value");
    assert_eq!(lgetxattr(to.join("dir"), "user.test", &mut value).unwrap(), 0);
    let sparse = File::open(to.join("sparse")).unwrap();
    assert!(sparse.metadata().unwrap().blocks() < 1000, "holes stay");
    let mut byte = [0];
    sparse.read_exact_at(&mut byte, 1 << 30).unwrap();
    assert_eq!(&byte, b"x");
}

/// As of a file system that cannot share or copy by itself.
#[test]
fn a_copy_to_another_file_system_is_whole() {
    let (from, to) = (TempDir::new().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let data: Vec<u8> = (0..700_001_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    fs::write(from.path().join("file"), &data).unwrap();
    copy::tree(from.path(), to.path()).unwrap();
    assert!(fs::read(to.path().join("file")).unwrap() == data);
}
