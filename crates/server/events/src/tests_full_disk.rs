//! A full disk: every event is delivered, and journalled as soon as there is room.

use std::fs;

use gantry_kernel::small_disk::{fill, with_small_disk};
use tempfile::TempDir;

use crate::{
    tests::{all, append, open, stored, times},
    *,
};

fn append_one(log: &EventLog) -> (Event, bool) {
    let container = crate::tests::container("a");
    let Appended { event, durable } = log.append_now(&container, Generation(1), EventKind::Paused);
    ((*event).clone(), durable)
}

#[test]
fn the_reserve_is_used_then_events_wait() {
    with_small_disk(TempDir::new().unwrap().path(), "512k", |dir| {
        let log = open(dir, 500);
        let mut live = log.subscribe(From::Now, all());
        let mut events = append(&log, 1);
        let filler = fill(dir);
        let reserve = dir.join("events.reserve");
        assert!(reserve.exists());

        let (durable, waiting): (Vec<_>, Vec<_>) =
            (0..1000).map(|_| append_one(&log)).partition(|(_, durable)| *durable);
        assert!(!reserve.exists());
        // 64 KiB of lines of less than 128 bytes.
        assert!(durable.len() > 512, "{}", durable.len());
        assert!(waiting.len() > 100, "{}", waiting.len());
        events.extend(durable.into_iter().map(|(event, _)| event));

        // What waits is not in the file, not even a part of it.
        let (copy, journal) = (TempDir::new().unwrap(), dir.join(journal::FILE));
        fs::copy(journal, copy.path().join(journal::FILE)).unwrap();
        assert_eq!(times(&stored(&open(copy.path(), 5000), Timestamp(0))), times(&events));
        assert!(!log.flush_now());

        fs::remove_file(filler).unwrap();
        events.extend(waiting.into_iter().map(|(event, _)| event));
        let (event, durable) = append_one(&log);
        events.push(event);
        assert!(durable);
        assert!(log.flush_now());
        assert!(reserve.exists());
        assert_eq!(times(&stored(&open(dir, 5000), Timestamp(0))), times(&events));

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut delivered = Vec::new();
        while delivered.len() < events.len() {
            let batch = runtime.block_on(live.next()).unwrap();
            delivered.extend(batch.iter().map(|event| (**event).clone()));
        }
        assert_eq!(times(&delivered), times(&events));
    });
}

#[test]
fn a_journal_that_cannot_be_compacted_is_written_to() {
    with_small_disk(TempDir::new().unwrap().path(), "1m", |dir| {
        let log = open(dir, 500);
        let lines = || fs::read_to_string(dir.join(journal::FILE)).unwrap().lines().count();
        append(&log, 1990);
        let filler = fill(dir);
        assert!((0..100).all(|_| append_one(&log).1));
        assert_eq!(lines(), 2090);
        assert!(!dir.join("events.journal.new").exists());
        fs::remove_file(filler).unwrap();
        append(&log, 1000);
        assert!(lines() < 2000, "{}", lines());
        open(dir, 500);
    });
}
