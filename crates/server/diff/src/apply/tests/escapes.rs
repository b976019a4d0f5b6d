//! No archive changes anything outside of the directory, and the errors name the entry.

use super::*;

/// Refuses it, with the entry's name; nothing is outside.
#[track_caller]
fn refused(tar: Tar, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b/root");
    fs::create_dir_all(&root).unwrap();
    let error = unpack(&root, tar).unwrap_err();
    assert!(matches!(error, DiffError::Entry { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    nothing_in(dir.path());
}

fn nothing_in(dir: &Path) {
    for (dir, name) in [(dir.to_owned(), "a"), (dir.join("a"), "b"), (dir.join("a/b"), "root")] {
        let names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [name]);
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    refused(Tar::default().file("../evil", b"x"), "../evil");
    refused(Tar::default().file("in/../../evil", b"x"), "in/../../evil");
    refused(Tar::default().directory("../../evil"), "../../evil");
    refused(Tar::default().file("/tmp/evil", b"x"), "/tmp/evil");
    refused(Tar::default().file("../.wh.root", b""), "../.wh.root");
    refused(Tar::default().records(&[("path", b"../evil")]).file("good", b""), "../evil");
}

#[test]
fn links_that_lead_out_are_refused() {
    let symbolic = Tar::default().symlink("link", "../..");
    refused(symbolic.file("link/evil", b"x"), "link/evil");
    let twice = Tar::default().symlink("one", "..").symlink("two", "one/..");
    refused(twice.file("two/evil", b"x"), "two/evil");
    let circle = Tar::default().symlink("one", "two").symlink("two", "one");
    refused(circle.file("one/evil", b"x"), "one/evil");
    let file = Tar::default().file("file", b"");
    refused(file.file("file/evil", b"x"), "file/evil");
    refused(Tar::default().link("evil", "../../../x"), "evil");
    refused(Tar::default().link("evil", "/etc/passwd"), "evil");
    refused(Tar::default().symlink("link", "/etc").link("evil", "link/passwd"), "evil");
    refused(Tar::default().symlink("link", "../../..").link("evil", "link/x"), "evil");
    refused(Tar::default().directory("d").link("d/evil", "."), "d/evil");
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        refused(Tar::default().file(name, b""), name);
    }
    refused(Tar::default().with(Tar::header(EntryType::new(b'Z'), "odd", "", 0), b""), "odd");
}

/// What is legal stays inside, where a container finds it.
#[test]
fn links_to_absolute_names_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b/root");
    fs::create_dir_all(&root).unwrap();
    let outside = dir.path().join("a");
    let tar = Tar::default()
        .symlink("link", outside.to_str().unwrap())
        .file("link/inside", b"1")
        // A link is replaced, and not written through.
        .symlink("passwd", "/etc/passwd")
        .file("passwd", b"1")
        .symlink("up", "../../../..")
        .directory("up");
    assert!(unpack(&root, tar).is_ok());
    nothing_in(dir.path());
    assert_eq!(read(root.join(outside.strip_prefix("/").unwrap()).join("inside")), "1");
    assert_eq!(read(root.join("passwd")), "1");
    assert!(fs::symlink_metadata(root.join("up")).unwrap().is_dir());
}

/// What is removed is the link.
#[test]
fn nothing_is_removed_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(outside.join("precious")).unwrap();
    let to = outside.to_str().unwrap();
    let tar = Tar::default()
        .directory("d")
        .symlink("d/link", to)
        .symlink("link", to)
        .file(".wh.link", b"")
        .file(".wh.d", b"")
        .symlink("other", to)
        .file(".wh..wh..opq", b"");
    assert!(unpack(&root, tar).is_ok());
    assert!(outside.join("precious").is_dir());
    assert!(fs::symlink_metadata(root.join("link")).is_err() && !root.join("d").exists());
    // That of the directory itself is of this layer.
    assert!(fs::symlink_metadata(root.join("other")).is_ok());
    let through = Tar::default().file("other/.wh.precious", b"").file("other/.wh..wh..opq", b"");
    assert!(unpack(&root, through).is_ok());
    assert!(outside.join("precious").is_dir());
}
