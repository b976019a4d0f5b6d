//! A full disk: a copy that does not fit is refused, and nothing of it is left.

use std::fs;

use gantry_domain::Kind;
use gantry_kernel::small_disk::with_small_disk;
use tempfile::TempDir;

use super::{commit, files, names, open, prepare};

#[test]
fn a_copy_that_does_not_fit_is_refused() {
    with_small_disk(TempDir::new().unwrap().path(), "16m", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_store, snapshots) = open(dir).await;
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
