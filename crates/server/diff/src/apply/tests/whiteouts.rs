//! What a layer says is gone.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::lgetxattr;

use super::*;

fn layer(root: &Path) {
    let tar = Tar::default()
        .directory("d")
        .file("d/old", b"1")
        .directory("d/sub")
        .file("d/sub/old", b"1")
        .file("gone", b"1");
    assert!(unpack(root, tar).is_ok());
}

#[test]
fn what_is_gone_is_removed() {
    let root = tempfile::tempdir().unwrap();
    layer(root.path());
    let tar = Tar::default()
        .file(".wh.gone", b"")
        .file(".wh.never", b"")
        .file("missing/.wh.never", b"")
        .file(".wh..wh.plnk", b"")
        .directory("d/sub")
        .file("d/sub/new", b"2")
        .file("d/implied/new", b"2")
        .file("d/.wh..wh..opq", b"");
    assert!(unpack(root.path(), tar).is_ok());
    let there = |name: &str| root.path().join(name).exists();
    assert!(!there("gone") && !there("d/old") && !there("d/sub/old"));
    assert!(there("d/sub/new") && there("d/implied/new") && there("missing"));
    assert!(!there(".wh..wh.plnk") && !there("d/.wh..wh..opq"));
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    matches!(lgetxattr(path, "trusted.overlay.opaque", &mut value), Ok(1) if value[0] == b'y')
}

#[test]
fn what_is_gone_is_hidden_in_an_overlay() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .file(".wh.gone", b"")
        .directory("d")
        .file("d/.wh..wh..opq", b"")
        .file("d/new", b"2")
        .file(".wh.again", b"")
        .directory("again")
        .directory("before")
        .file(".wh.before", b"")
        .file(".wh.file", b"")
        .file("file", b"3");
    assert!(unpack_into(&upper(root.path(), &[]), tar).is_ok());
    let gone = fs::symlink_metadata(root.path().join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(is_opaque(&root.path().join("d")));
    // The layer's own is there, and nothing of the layers below.
    assert!(is_opaque(&root.path().join("again")) && is_opaque(&root.path().join("before")));
    assert_eq!(read(root.path().join("file")), "3");
    assert_eq!(read(root.path().join("d/new")), "2");
    assert!(!root.path().join(".wh.gone").exists());
}
