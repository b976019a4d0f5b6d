//! Files with holes, as tar(1) writes them.

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    process::Command,
};

use super::*;

#[test]
fn holes_are_not_filled() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = File::create(from.path().join("holes")).unwrap();
    // More pieces than a header has room for.
    for piece in 0..60 {
        file.write_all_at(&[piece + 1; 4096], u64::from(piece) * 65536).unwrap();
    }
    file.set_len(8 << 20).unwrap();
    drop(file);
    if fs::metadata(from.path().join("holes")).unwrap().blocks() > 8 << 11 {
        return;
    }
    for format in ["--format=gnu", "0.0", "0.1", "1.0"] {
        let mut tar = Command::new("tar");
        tar.args(["-C", from.path().to_str().unwrap(), "-cSf", "-"]);
        match format.starts_with("--") {
            true => tar.arg(format),
            false => tar.args(["--format=posix", "--sparse-version", format]),
        };
        let archive = tar.arg("holes").output().unwrap();
        assert!(archive.status.success(), "{archive:?}");
        assert!(archive.stdout.len() < 1 << 20, "tar has found no holes");
        let root = to.path().join(format);
        fs::create_dir(&root).unwrap();
        let target = Target { root: root.clone(), overlay: None };
        apply(&*archive.stdout, &target, &options()).unwrap();
        let names: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["holes"], "{format}");
        let same =
            fs::read(root.join("holes")).unwrap() == fs::read(from.path().join("holes")).unwrap();
        assert!(same, "{format}");
        assert!(fs::metadata(root.join("holes")).unwrap().blocks() < 4 << 10, "{format}");
    }
}

#[test]
fn maps_that_lie_are_refused() {
    for map in ["0,5", "4,1", "0,1,0,1", "0", "x,1", "9,18446744073709551615"] {
        let records = [("GNU.sparse.size", &b"4"[..]), ("GNU.sparse.map", map.as_bytes())];
        let root = tempfile::tempdir().unwrap();
        let tar = Tar::default().records(&records).file("f", b"12");
        assert!(unpack(root.path(), tar).is_err(), "{map}");
    }
    let records = [("GNU.sparse.size", &b"6"[..]), ("GNU.sparse.map", &b"1,1,4,1"[..])];
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), Tar::default().records(&records).file("f", b"12")).unwrap();
    assert_eq!(fs::read(root.path().join("f")).unwrap(), b"\x001\0\x002\0");
}
