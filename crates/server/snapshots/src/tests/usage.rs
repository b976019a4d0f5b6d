//! What snapshots take of the disk.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
};

use super::{BOTH, Bed, commit, files, namespace, prepare, view};

#[tokio::test]
async fn files_count_once_and_holes_do_not() {
    let bed = Bed::new().await;
    for name in BOTH {
        let sn = bed.of(name);
        let usage = async |key: &str| sn.usage(&namespace(), key).await.unwrap();
        prepare(&sn, "a", "").await.unwrap();
        let top = files(&sn, "a").await;
        let empty = usage("a").await;
        assert_eq!((empty.inodes, empty.bytes), (1, fs::metadata(&top).unwrap().blocks() * 512));
        fs::create_dir_all(top.join("x/y")).unwrap();
        fs::write(top.join("x/y/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(top.join("x/y/file"), top.join("again")).unwrap();
        File::create(top.join("hole")).unwrap().set_len(1 << 40).unwrap();
        symlink("/nowhere", top.join("link")).unwrap();
        let before = usage("a").await;
        assert_eq!(before.inodes, 6);
        assert!((100_000..1 << 20).contains(&before.bytes), "{before:?}");
        commit(&sn, "a", "A").await.unwrap();
        assert_eq!(usage("A").await.inodes, 6);
        // Nobody counts it again.
        fs::write(top.join("later"), "").unwrap();
        assert_eq!(usage("A").await.inodes, 6);
        fs::remove_file(top.join("later")).unwrap();
        view(&sn, "v", "A").await;
        assert_eq!(usage("v").await.inodes, 0);
        prepare(&sn, "b", "A").await.unwrap();
        let copied = if name == "native" { 6 } else { 1 };
        assert_eq!(usage("b").await.inodes, copied);
    }
}

#[tokio::test]
async fn a_tree_that_is_too_deep_is_an_error() {
    let bed = Bed::new().await;
    let sn = bed.of("overlayfs");
    prepare(&sn, "a", "").await.unwrap();
    let mut dir = rustix::fs::open(
        files(&sn, "a").await,
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&dir, c"d", rustix::fs::Mode::RWXU).unwrap();
        dir = crate::walk::enter(&dir, c"d").unwrap();
    }
    let error = sn.usage(&namespace(), "a").await.unwrap_err();
    let message = "the files of the snapshot lie deeper than 1000 directories: failed precondition";
    assert_eq!(error.to_string(), message);
    // It can be removed all the same.
    sn.remove(&namespace(), "a", None).await.unwrap();
    sn.cleanup().await.unwrap();
    assert_eq!(super::names(&bed.path("overlayfs", "trash")), [""; 0]);
}
