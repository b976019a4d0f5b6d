//! A full disk: what does not fit is refused, and what is there is read.

use gantry_domain::Kind;
use gantry_kernel::small_disk::with_small_disk;
use gantry_store::{Labels, Store};
use tempfile::TempDir;

use super::{digest, namespace, read};
use crate::Content;

#[test]
fn a_full_disk_refuses_and_keeps() {
    with_small_disk(TempDir::new().unwrap().path(), "8m", |dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ns = namespace("ns");
            let content = Content::open(dir, Store::open(dir).unwrap().0, 1).await.unwrap();
            let writer = async |name: &str| {
                content.writer(&ns, name.to_owned(), 0, None, None).await.unwrap()
            };
            let mut small = writer("small").await;
            small.write(b"small".to_vec()).await.unwrap();
            small.commit(0, None, Labels::new()).await.unwrap();
            let mut large = writer("large").await;
            let full = loop {
                if let Err(error) = large.write(vec![1; 1 << 20]).await {
                    break error;
                }
            };
            assert_eq!(full.kind(), Kind::ResourceExhausted, "{full}");
            drop(large);
            assert_eq!(read(&content, "ns", &digest(b"small"), 0, None).await.unwrap(), b"small");
            // There is room again when the write is given up.
            content.abort(&ns, "large").await.unwrap();
            let mut other = writer("other").await;
            other.write(vec![1; 1 << 20]).await.unwrap();
            other.commit(1 << 20, None, Labels::new()).await.unwrap();
        });
    });
}
