//! Names of very many directories.

use super::*;

#[test]
fn what_lies_too_deep_is_refused() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let deep = |depth: usize| format!("{}f", "a/".repeat(depth));
    let named = |name: &str| Tar::default().records(&[("path", name.as_bytes())]).file("x", b"");
    // Also by a link: "up/.." comes to where the link leads from, and another half is below.
    let half = format!("/{}", "a/".repeat(600));
    let linked = named(&deep(600)).records(&[("linkpath", half.as_bytes())]).symlink("half", "x");
    let linked = linked.records(&[("path", format!("half/{}", deep(600)).as_bytes())]);
    for (tar, name) in [(named(&deep(50_000)), "a/a/"), (linked.file("x", b""), "half/a/")] {
        let error = unpack(root.path(), tar).unwrap_err();
        assert!(matches!(error, DiffError::Entry { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("entry \"{name}")) && text.len() < 2000, "{text}");
        assert!(text.ends_with("lies deeper than 1000 directories"), "{text}");
    }
    // What is just allowed can be replaced.
    let tar = named(&deep(999)).file("a", b"1");
    unpack(root.path(), tar).unwrap();
    assert_eq!(read(root.path().join("a")), "1");
}

#[test]
fn a_link_may_go_up_again() {
    let root = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .symlink("link", "/a/b/../c/../../d")
        .file("link/e/f", b"1")
        .file("link/../g", b"2");
    unpack(root.path(), tar).unwrap();
    assert_eq!(read(root.path().join("d/e/f")), "1");
    assert_eq!(read(root.path().join("g")), "2");
    assert!(root.path().join("a/b").is_dir() && root.path().join("a/c").is_dir());
}
