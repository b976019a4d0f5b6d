//! A full disk: what does not fit is refused, and nothing is lost.

use std::fs;

use gantry_kernel::small_disk::{fill, with_small_disk};
use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{AnyValue, Container, Kind, Store, StoreError};

fn big(number: usize) -> Container {
    let value = vec![u8::try_from(number % 251).unwrap(); 20_000];
    let spec = Some(AnyValue { type_url: "t".to_owned(), value });
    Container { spec, ..container(&format!("c{number}")) }
}

/// Creates until there is no room; says how many there are.
async fn create(store: &Store, from: usize) -> usize {
    for number in from..from + 10_000 {
        match store.create_container(&namespace("ns"), big(number)).await {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
                assert_eq!(error.kind(), Kind::ResourceExhausted);
                return number;
            }
        }
    }
    panic!("there is always room")
}

async fn assert_there(store: &Store, count: usize) {
    for number in 0..count {
        let found = store.container(&namespace("ns"), &format!("c{number}")).await.unwrap();
        assert_eq!(found.spec, big(number).spec);
    }
    let next = store.container(&namespace("ns"), &format!("c{count}")).await;
    assert_eq!(next.unwrap_err().kind(), Kind::NotFound);
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_full_disk_refuses_and_keeps() {
    with_small_disk(TempDir::new().unwrap().path(), "4m", |dir| {
        block_on(async {
            let ns = namespace("ns");
            let store = open(dir);
            let mut count = create(&store, 0).await;
            fill(dir);
            count = create(&store, count).await;
            assert!(count > 20, "{count}");
            assert_there(&store, count).await;
            // Again and again: each time the same answer, and nothing is worse.
            for _ in 0..5 {
                assert_eq!(create(&store, count).await, count);
            }
            assert_there(&store, count).await;

            // A server that is started now reads, and can delete, which makes room.
            store.close().await;
            let store = open(dir);
            assert_there(&store, count).await;
            store.delete_container(&ns, &format!("c{}", count - 1)).await.unwrap();
            count -= 1;
            assert_there(&store, count).await;

            fs::remove_file(dir.join("filler")).unwrap();
            store.create_container(&ns, big(count)).await.unwrap();
            assert_there(&store, count + 1).await;
        });
    });
}

#[test]
fn there_is_no_store_on_a_full_disk_until_there_is_room() {
    with_small_disk(TempDir::new().unwrap().path(), "64k", |dir| {
        fill(dir);
        let error = Store::open(dir).map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
        fs::remove_file(dir.join("filler")).unwrap();
    });
    with_small_disk(TempDir::new().unwrap().path(), "1m", |dir| {
        fill(dir);
        assert!(Store::open(dir).is_err());
        fs::remove_file(dir.join("filler")).unwrap();
        block_on(async {
            let store = open(dir);
            store.create_container(&namespace("ns"), container("c")).await.unwrap();
        });
    });
}
