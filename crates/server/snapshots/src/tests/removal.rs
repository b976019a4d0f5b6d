//! What is removed, and what is not.

use std::{ffi::CString, fs, os::unix::fs::symlink};

use rustix::fs::{Mode, OFlags, mkdirat, open};
use tempfile::TempDir;

use super::{BOTH, Bed, files, names, namespace, prepare};
use crate::{trash, walk};

#[tokio::test]
async fn files_go_with_their_snapshot() {
    let bed = Bed::new().await;
    for name in BOTH {
        let sn = bed.of(name);
        prepare(&sn, "a", "").await.unwrap();
        fs::create_dir_all(files(&sn, "a").await.join("x/y/z")).unwrap();
        sn.remove(&namespace(), "a", None).await.unwrap();
        assert_eq!(names(&bed.path(name, "snapshots")), [""; 0]);
        sn.cleanup().await.unwrap();
        assert_eq!(names(&bed.path(name, "trash")), [""; 0]);
    }
}

#[test]
fn what_links_lead_to_stays_and_depth_is_no_matter() {
    let dir = TempDir::new().unwrap();
    let [trash, outside] = ["trash", "outside"].map(|name| dir.path().join(name));
    fs::create_dir_all(trash.join("1/inner")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, trash.join("1/inner/link")).unwrap();
    symlink(&outside, trash.join("2")).unwrap();
    // Deeper than a path can name.
    let mut deep = open(trash.join("1"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = CString::new([b'd'; 60]).unwrap();
    for _ in 0..150 {
        mkdirat(&deep, &name, Mode::RWXU).unwrap();
        deep = walk::enter(&deep, &name).unwrap();
    }
    trash::empty(&trash).unwrap();
    assert_eq!(names(&trash), [""; 0]);
    assert_eq!(names(&outside), ["file"]);
}
