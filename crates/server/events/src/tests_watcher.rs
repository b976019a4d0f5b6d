//! What a watcher reads, and how the log remembers ends.

use gantry_domain::{Exit, ExitStatus, ProcessId};
use tempfile::TempDir;

use crate::{
    tests::{container, open},
    tests_follower::named,
    *,
};

const ONE: Generation = Generation(1);

fn exit_of(process: ProcessId, code: u8) -> EventKind {
    let exit = Exit { status: ExitStatus::Code(code), at: Timestamp(1) };
    EventKind::Exited { process, generation: Generation(2), pid: 7, exit }
}

fn add(log: &EventLog, of: &ContainerKey, kind: EventKind) -> Arc<Event> {
    log.append_now(of, ONE, kind).event
}

/// What there is to read now, in batches.
async fn rest(watcher: &mut Watcher, last: &Arc<Event>) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    while events.last() != Some(last) {
        let batch = watcher.next().await;
        assert_eq!(batch.missing, None);
        events.extend(batch.events);
    }
    events
}

#[tokio::test]
async fn all_namespaces_are_read_in_one_order_from_anywhere() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    let keys = [container("a"), named("moby", "a"), named("other", "b")];
    let events: Vec<_> =
        (0..600).map(|number| add(&log, &keys[number % 3], EventKind::Resumed)).collect();
    let last = &events[599];
    let mut from_the_start = log.watch_all(From::After(Timestamp(0)));
    assert_eq!(rest(&mut from_the_start, last).await, events);
    let mut from_the_middle = log.watch_all(From::After(events[299].at));
    assert_eq!(rest(&mut from_the_middle, last).await, events[300..]);
    assert_eq!(from_the_middle.position(), last.at);
    let mut from_now = log.watch_all(From::Now);
    let next = add(&log, &keys[0], EventKind::Paused);
    assert_eq!(rest(&mut from_now, &next).await, [next]);
}

#[tokio::test]
async fn a_watcher_is_woken_by_either_kind_of_namespace() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    for key in [container("a"), named("moby", "a")] {
        let mut watcher = log.watch_all(From::Now);
        let waiting = tokio::spawn(async move { watcher.next().await.events });
        tokio::task::yield_now().await;
        let event = add(&log, &key, EventKind::Paused);
        assert_eq!(waiting.await.unwrap(), [event]);
    }
}

/// What was dropped is reported once, before what is left; the events of all namespaces count.
#[tokio::test]
async fn what_is_missing_is_reported_also_after_a_restart() {
    for key in [container("a"), named("moby", "a")] {
        let dir = TempDir::new().unwrap();
        let log = open(dir.path(), 100);
        let events: Vec<_> = (0..5000).map(|_| add(&log, &key, EventKind::Resumed)).collect();
        let first = events[0].at;
        let check = async |log: &EventLog| {
            let mut watcher = log.watch_all(From::After(first));
            let batch = watcher.next().await;
            let missing = batch.missing.expect("not everything is kept");
            assert!(missing > first && missing < batch.events[0].at);
            assert_eq!(watcher.next().await.missing, None);
            let kept = events.iter().position(|event| event.at > missing).unwrap();
            assert_eq!(batch.events, events[kept..kept + batch.events.len()]);
            // Who knows of the gap is not told again.
            let mut later = log.watch_all(From::After(events[4998].at));
            assert_eq!(
                later.next().await,
                Batch { missing: None, events: vec![Arc::clone(&events[4999])] }
            );
        };
        check(&log).await;
        drop(log);
        check(&open(dir.path(), 100)).await;
    }
}

#[tokio::test]
async fn a_watcher_takes_no_exit_from_anybody() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    let key = named("moby", "a");
    let exit = add(&log, &key, exit_of(ProcessId::init(), 3));
    let mut watcher = log.watch_all(From::After(Timestamp(0)));
    assert_eq!(rest(&mut watcher, &exit).await, [Arc::clone(&exit)]);
    let more = add(&log, &key, EventKind::Resumed);
    assert_eq!(rest(&mut watcher, &more).await, [more]);
    let mut follower = log.follow(|_| true);
    assert_eq!(follower.next().await.unwrap()[0], Entry::Container(exit));
}

fn status(log: &EventLog, key: &ContainerKey, process: &ProcessId) -> Option<(ExitStatus, bool)> {
    log.ended(key, process).map(|ended| (ended.exit.status, ended.out_of_memory))
}

#[test]
fn the_end_of_the_latest_process_of_an_id_is_remembered() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    let (key, init) = (named("moby", "a"), ProcessId::init());
    let exec = ProcessId::parse("e").unwrap();
    assert_eq!(status(&log, &key, &init), None);
    add(&log, &key, EventKind::Created(Box::default()));
    add(&log, &key, EventKind::ContainerStarted { pid: 1 });
    add(&log, &key, EventKind::OutOfMemory);
    add(&log, &key, EventKind::ProcessAdded { process: exec.clone() });
    assert_eq!(status(&log, &key, &exec), None);
    let started =
        |pid| EventKind::ProcessStarted { process: exec.clone(), generation: Generation(2), pid };
    add(&log, &key, started(8));
    add(&log, &key, exit_of(exec.clone(), 1));
    assert_eq!(status(&log, &key, &exec), Some((ExitStatus::Code(1), false)));
    add(&log, &key, started(9));
    assert_eq!(status(&log, &key, &exec), None, "another runs");
    add(&log, &key, exit_of(exec.clone(), 2));
    add(&log, &key, exit_of(init.clone(), 3));
    add(
        &log,
        &key,
        EventKind::Deleted { pid: 1, exit: Exit { status: ExitStatus::Unknown, at: Timestamp(1) } },
    );
    add(&log, &named("other", "a"), EventKind::ContainerStarted { pid: 1 });
    let check = |log: &EventLog| {
        assert_eq!(status(log, &key, &exec), Some((ExitStatus::Code(2), false)));
        assert_eq!(status(log, &key, &init), Some((ExitStatus::Code(3), true)));
    };
    check(&log);
    drop(log);
    let log = open(dir.path(), 100);
    check(&log);
    log.append_now(&key, Generation(3), EventKind::ContainerStarted { pid: 1 });
    assert_eq!(status(&log, &key, &init), None, "another runs");
    assert_eq!(status(&log, &key, &exec), None, "it was another container's");
}

/// Damage is followed by a line that is no event: what was there is missing all the same.
#[tokio::test]
async fn what_was_damaged_is_missing_whatever_follows() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 100);
    let key = named("moby", "a");
    let before = add(&log, &key, exit_of(ProcessId::init(), 1));
    drop(log);
    let path = dir.path().join(crate::journal::FILE);
    let mut journal = std::fs::read(&path).unwrap();
    journal.extend(b"damage\n");
    journal.extend(crate::record::encode_delivered(&[before.at]).unwrap());
    std::fs::write(&path, &journal).unwrap();
    for add_more in [false, true] {
        let (log, _) = EventLog::open(dir.path(), 100).unwrap();
        if add_more {
            add(&log, &key, EventKind::Paused);
        }
        drop(log);
        let (log, _) = EventLog::open(dir.path(), 100).unwrap();
        let batch = log.watch_all(From::After(before.at)).next().await;
        assert!(batch.missing.is_some_and(|missing| missing > before.at), "{batch:?}");
    }
}

/// The file that nothing could be read of is not the journal any more when the server is started again.
#[tokio::test]
async fn what_was_put_aside_is_missing_also_later() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(crate::journal::FILE), [0; 1000]).unwrap();
    let (log, _) = EventLog::open(dir.path(), 100).unwrap();
    let event = add(&log, &container("a"), EventKind::Paused);
    drop(log);
    for _ in 0..2 {
        let log = open(dir.path(), 100);
        for namespace in [container("a"), named("moby", "a")] {
            let missing = log.shared.channel(&namespace.namespace).ring().dropped();
            assert!(missing > Timestamp(0) && missing < event.at, "{missing:?}");
        }
    }
}

/// A watcher that was told of a gap, after which nothing has happened, goes on behind it.
#[tokio::test]
async fn a_gap_at_the_end_is_reported_once() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(crate::journal::FILE), [0; 1000]).unwrap();
    let (log, _) = EventLog::open(dir.path(), 100).unwrap();
    let mut watcher = log.watch_all(From::After(Timestamp(1)));
    let batch = watcher.next().await;
    assert!(batch.events.is_empty());
    assert_eq!(Some(watcher.position()), batch.missing);
}
