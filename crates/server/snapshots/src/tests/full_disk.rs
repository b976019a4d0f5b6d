//! A full disk: a copy that does not fit is refused, and nothing of it is left.

use std::fs::{self, File};

use gantry_domain::Kind;
use gantry_kernel::small_disk::with_small_disk;
use tempfile::TempDir;

use super::{BOTH, commit, files, names, namespace, open, prepare};
use crate::Snapshots;

#[test]
fn a_copy_that_does_not_fit_is_refused() {
    with_small_disk(TempDir::new().unwrap().path(), "16m", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_store, snapshots) = open(dir, true).await;
            let native = snapshots.named("native").unwrap();
            prepare(&native, "a", "").await.unwrap();
            fs::write(files(&native, "a").await.join("file"), vec![1; 8 << 20]).unwrap();
            commit(&native, "a", "A").await.unwrap();
            let full = prepare(&native, "b", "A").await.unwrap_err();
            assert_eq!(full.kind(), Kind::ResourceExhausted, "{full}");
            native.cleanup().await.unwrap();
            for (sub, left) in [("snapshots", 1), ("trash", 0)] {
                assert_eq!(names(&dir.join("snapshots/native").join(sub)).len(), left, "{sub}");
            }
            fs::write(files(&native, "A").await.join("file"), "less").unwrap();
            prepare(&native, "b", "A").await.unwrap();
        });
    });
}

#[test]
fn on_a_full_disk_snapshots_can_be_removed() {
    // No file or directory can be made any more; the store has its files open.
    with_small_disk(TempDir::new().unwrap().path(), "16m,nr_inodes=100", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, snapshots) = open(dir, true).await;
            for name in BOTH {
                let found = snapshots.all().into_iter().find(|found| found.name() == name);
                prepare(found.unwrap(), "a", "").await.unwrap();
            }
            let mut fillers = (0..).map(|number| dir.join(format!("filler-{number}")));
            while File::create(fillers.next().unwrap()).is_ok() {}
            let again = Snapshots::open(dir, store.clone(), false).await.unwrap();
            for (before, after) in snapshots.all().into_iter().zip(again.all()) {
                assert_eq!(before.problem(), after.problem());
                after.remove(&namespace(), "a", None).await.unwrap();
                after.cleanup().await.unwrap();
                let root = dir.join("snapshots").join(after.name());
                for sub in ["snapshots", "trash"] {
                    assert_eq!(names(&root.join(sub)), [""; 0]);
                }
            }
        });
    });
}
