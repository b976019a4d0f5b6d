//! A file that is not as it was written.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{AnyValue, Container, Store, StoreError, engine::FILE, filter::Filters};

const COUNT: usize = 40;

fn nth(number: usize) -> Container {
    let spec = Some(AnyValue { type_url: "t".to_owned(), value: vec![7; number * 30] });
    Container { spec, ..container(&format!("c{number:02}")) }
}

/// The file of a store with some containers.
async fn file() -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for number in 0..COUNT {
        store.create_container(&namespace("ns"), nth(number)).await.unwrap();
    }
    store.close().await;
    fs::read(dir.path().join(FILE)).unwrap()
}

async fn specs(store: &Store) -> Vec<Option<AnyValue>> {
    let page = store.container_page(&namespace("ns"), &Filters::default(), None).await.unwrap();
    page.containers.into_iter().map(|container| container.spec).collect()
}

fn quarantined(dir: &Path, number: usize) -> std::path::PathBuf {
    dir.join(format!("{FILE}.corrupt-{number}"))
}

#[tokio::test]
async fn a_damaged_file_is_kept_and_an_empty_one_takes_its_place() {
    let sound = file().await;
    let garbage = vec![0x55; 100_000];
    let zeros = vec![0; sound.len()];
    let half = sound[..sound.len() / 2].to_vec();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    let damaged = [garbage, zeros, half, Vec::new(), b"not a database".to_vec()];
    for (number, damaged) in (1..).zip(damaged) {
        fs::write(&path, &damaged).unwrap();
        let (store, recovery) = Store::open(dir.path()).unwrap();
        assert_eq!(recovery.quarantined, Some(quarantined(dir.path(), number)));
        assert!(!recovery.is_clean() && recovery.to_string().contains("corrupt"), "{recovery}");
        assert_eq!(fs::read(quarantined(dir.path(), number)).unwrap(), damaged);
        assert_eq!(store.namespaces().await.unwrap(), []);
        store.create_container(&namespace("ns"), nth(1)).await.unwrap();
        store.close().await;
        let store = open(dir.path());
        assert_eq!(specs(&store).await, [nth(1).spec]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_changed_byte_is_found_or_does_not_matter() {
    let sound = file().await;
    let expected: Vec<_> = (0..COUNT).map(|number| nth(number).spec).collect();
    let mut found = 0;
    for _ in 0..60 {
        let dir = TempDir::new().unwrap();
        let mut damaged = sound.clone();
        // What is not a page of something stored is zeros.
        let used: Vec<_> = (0..damaged.len()).filter(|at| damaged[*at] != 0).collect();
        damaged[used[fastrand::usize(..used.len())]] ^= 1 << fastrand::u8(..8);
        fs::write(dir.path().join(FILE), &damaged).unwrap();
        match Store::open(dir.path()) {
            Ok((store, recovery)) if recovery.is_clean() => {
                assert_eq!(specs(&store).await, expected);
            }
            Ok((store, _)) => {
                found += 1;
                assert_eq!(specs(&store).await, []);
            }
            // The version of the file's format is another now.
            Err(StoreError::Database { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(found > 10, "{found}");
}

#[tokio::test]
async fn what_is_not_damaged_stays() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    fs::create_dir(&path).unwrap();
    assert!(matches!(Store::open(dir.path()).map(drop), Err(StoreError::Open { .. })));
    fs::remove_dir(&path).unwrap();
    let store = open(dir.path());
    store.close().await;
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let about = redb::TableDefinition::<&str, u64>::new("about");
    transaction.open_table(about).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let newer = Store::open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(newer, StoreError::Newer { found: 2, .. }), "{newer}");
    assert!(path.exists() && !quarantined(dir.path(), 1).exists());
    // What a crash has left of a file that was being made.
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(format!("{FILE}.new")), "half").unwrap();
    open(dir.path());
    assert!(!dir.path().join(format!("{FILE}.new")).exists());
}
