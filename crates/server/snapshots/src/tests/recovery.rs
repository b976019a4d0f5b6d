//! What a server finds of an earlier one that was killed. That it may be killed anywhere is tried end to end.

use std::fs;

use super::{BOTH, Bed, files, names, namespace, prepare};

#[tokio::test]
async fn directories_of_which_nothing_is_known_are_removed() {
    let mut bed = Bed::new().await;
    for name in BOTH {
        let sn = bed.of(name);
        prepare(&sn, "kept", "").await.unwrap();
        fs::write(files(&sn, "kept").await.join("file"), "kept").unwrap();
        // Of calls that were not done to their end, and somebody else's.
        for stray in ["snapshots/77/fs", "trash/78/fs", "snapshots/notes"] {
            fs::create_dir_all(bed.path(name, stray)).unwrap();
        }
    }
    bed.restart().await;
    for name in BOTH {
        let sn = bed.of(name);
        sn.cleanup().await.unwrap();
        let directory = sn.stat(&namespace(), "kept").await.unwrap().directory.to_string();
        assert_eq!(names(&bed.path(name, "snapshots")), [&*directory, "notes"]);
        assert_eq!(names(&bed.path(name, "trash")), [""; 0]);
        assert_eq!(fs::read_to_string(files(&sn, "kept").await.join("file")).unwrap(), "kept");
    }
    let sn = bed.of("overlayfs");
    prepare(&sn, "next", "").await.unwrap();
    let directory = sn.stat(&namespace(), "next").await.unwrap().directory;
    assert_eq!(directory, 79, "no number is used twice");
}

#[tokio::test]
async fn a_number_is_not_used_again_after_a_restart() {
    let mut bed = Bed::new().await;
    let sn = bed.of("native");
    prepare(&sn, "a", "").await.unwrap();
    sn.remove(&namespace(), "a", None).await.unwrap();
    sn.cleanup().await.unwrap();
    bed.restart().await;
    let sn = bed.of("native");
    prepare(&sn, "a", "").await.unwrap();
    assert_eq!(sn.stat(&namespace(), "a").await.unwrap().directory, 2);
}
