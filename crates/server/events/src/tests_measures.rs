//! How far readers are behind, and how long the journal is.

use tempfile::TempDir;

use crate::{
    tests::{container, open},
    tests_follower::named,
    *,
};

fn add(log: &EventLog, of: &ContainerKey, count: usize) {
    for _ in 0..count {
        log.append_now(of, Generation(1), EventKind::Resumed);
    }
}

#[tokio::test]
async fn the_slowest_of_each_kind_is_measured() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    let (types, moby) = (container("a"), named("moby", "a"));
    add(&log, &types, 3);
    assert_eq!(log.measure().types, MeasuredSubscribers::default());
    let _slow = log.watch(From::Now, Namespace::TYPES_API);
    let mut quick = log.watch(From::Now, Namespace::TYPES_API);
    let mut follower = log.watch_named();
    let mut watcher = log.watch_all(From::Now);
    add(&log, &types, 5);
    add(&log, &moby, 2);
    quick.next().await.unwrap();
    let measured = log.measure();
    let behind = |subscribers: MeasuredSubscribers| (subscribers.count, subscribers.slowest.events);
    assert_eq!(behind(measured.types), (2, 5));
    assert_eq!(behind(measured.named), (1, 2));
    assert_eq!(behind(measured.watchers), (1, 7));
    let event = |key: &ContainerKey| 257 + key.namespace.name().len() as u64;
    assert_eq!(measured.types.slowest.bytes, 5 * event(&types));
    assert_eq!(measured.watchers.slowest.bytes, 5 * event(&types) + 2 * event(&moby));
    let published = Publication {
        namespace: Namespace::named("moby").unwrap(),
        topic: "/x".to_owned(),
        type_url: String::new(),
        value: vec![0; 1000],
        happened: None,
    };
    log.publish(published).await.unwrap();
    let with_published = log.measure().named.slowest;
    assert_eq!(with_published.events, 3);
    assert!(with_published.bytes > 1000);

    // What is published after the last event of a container comes by itself.
    assert_eq!(follower.next().await.unwrap().len(), 2);
    assert_eq!(follower.next().await.unwrap().len(), 1);
    watcher.next().await;
    let read = log.measure();
    assert_eq!((behind(read.named), behind(read.watchers)), ((1, 0), (1, 0)));
    assert_eq!((read.named.slowest.bytes, read.watchers.slowest.bytes), (0, 0));
    drop((quick, _slow, follower, watcher));
    let gone = log.measure();
    assert_eq!([gone.types.count, gone.named.count, gone.watchers.count], [0, 0, 0]);
}

#[tokio::test]
async fn the_journal_has_the_size_of_its_file() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    add(&log, &container("a"), 10);
    // Comes back when the thread has counted what was before.
    assert!(log.flush().await);
    let measured = log.measure();
    let length = std::fs::metadata(dir.path().join("events.journal")).unwrap().len();
    assert_eq!(
        (measured.journal_bytes, measured.journal_records, measured.unwritten_records),
        (length, 10, 0)
    );
}
