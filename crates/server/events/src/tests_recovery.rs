//! Whatever becomes of the journal file, a server opens it, and the events that are left in it.

use std::fs;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    record::{Damage, Fault, Lines, Marks, recover},
    recovery::{Quarantined, Unreadable},
    tests::{append, container, exited, open, stored},
    *,
};

/// A journal of some events, as bytes, with where each line ends.
fn journal(count: u8) -> (Vec<Event>, Vec<u8>, Vec<usize>) {
    let (mut events, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let at = Timestamp(1_000 + u64::from(n) * 37);
        let event = Event {
            at,
            container: container("a"),
            generation: Generation(1),
            labels: Labels::default(),
            kind: exited(n),
        };
        bytes.extend(record::encode(&event, Marks::default()).unwrap());
        events.push(event);
        ends.push(bytes.len());
    }
    (events, bytes, ends)
}

/// A state directory with this journal.
fn directory(journal: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(journal::FILE), journal).unwrap();
    dir
}

fn stopped() -> Timestamp {
    Timestamp(0)
}

/// Opens the log, which is to have these events, and sees that it goes on after `last`, also when
/// the clock is set back and it is opened again.
fn goes_on(dir: &TempDir, events: &[Event], last: Timestamp) -> Recovery {
    // One that does not write changes nothing for the next.
    drop(EventLog::open_at(dir.path(), 500, stopped).unwrap());
    let (log, recovery) = EventLog::open_at(dir.path(), 500, stopped).unwrap();
    assert_eq!(stored(&log, Timestamp(0)), events);
    let more = append(&log, 2);
    assert!(more[0].at > last, "{more:?}");
    let (log, _) = EventLog::open(dir.path(), 500).unwrap();
    assert_eq!(stored(&log, Timestamp(0)), [events, &more].concat());
    recovery
}

#[test]
fn a_torn_end_is_cut_off() {
    let (events, bytes, ends) = journal(3);
    for len in 1..=bytes.len() {
        let dir = directory(&bytes[..len]);
        let whole = ends.iter().filter(|end| **end <= len).count();
        let recovery = goes_on(&dir, &events[..whole], events[2].at);
        let start = whole.checked_sub(1).map_or(0, |n| ends[n]);
        assert_eq!(recovery.is_clean(), start == len || whole == 0, "at {len}: {recovery}");
        if whole > 0 && start < len {
            let torn = Damage { offset: start, length: len - start, fault: Fault::Torn };
            assert_eq!(recovery.damage, [torn]);
            // With the next event it was overwritten, not left behind.
            open(dir.path(), 500);
        }
    }
}

#[test]
fn a_file_without_events_is_put_aside() {
    let dir = directory(&[0; 10_000]);
    let path = dir.path().join(journal::FILE);
    for number in 1..=2 {
        let (_, recovery) = EventLog::open(dir.path(), 500).unwrap();
        let Some(Quarantined { path: aside, reason: Unreadable::NoEvent }) = recovery.quarantined
        else {
            panic!("{recovery}");
        };
        assert_eq!(aside, dir.path().join(format!("events.journal.corrupt-{number}")));
        assert_eq!(fs::read(aside).unwrap(), [0; 10_000]);
        fs::write(&path, [0; 10_000]).unwrap();
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (log, recovery) = EventLog::open(dir.path(), 500).unwrap();
    assert!(matches!(recovery.quarantined, Some(Quarantined { reason: Unreadable::NotAFile, .. })));
    let events = append(&log, 1);
    assert_eq!(stored(&open(dir.path(), 500), Timestamp(0)), events);
}

/// The last event may be among what cannot be read, so the file's own time is what counts.
#[test]
fn time_goes_on_after_damage() {
    let written = Timestamp(2_000_000_000_000_000_000);
    let (events, bytes, ends) = journal(3);
    let set_time = |dir: &TempDir| {
        let file = fs::File::options().append(true).open(dir.path().join(journal::FILE)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_nanos(written.0)).unwrap();
    };
    let torn = directory(&bytes[..bytes.len() - 1]);
    set_time(&torn);
    goes_on(&torn, &events[..2], written);
    let scribbled = directory(&[&bytes[..ends[1]], b"scribble\n"].concat());
    set_time(&scribbled);
    goes_on(&scribbled, &events[..2], written);
    let lost = directory(&[0; 100]);
    set_time(&lost);
    goes_on(&lost, &[], written);
}

#[test]
fn a_time_that_is_nonsense_does_no_harm() {
    let dir = directory(&[0; 100]);
    let file = fs::File::options().append(true).open(dir.path().join(journal::FILE)).unwrap();
    // The year 3000, where the filesystem can say it: nanoseconds since the epoch do not fit.
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(32_503_680_000)).unwrap();
    goes_on(&dir, &[], Timestamp(0));
}

proptest! {
    /// What a scribble did not touch is still there, and nothing else is.
    #[test]
    fn scribbles_cost_the_lines_they_hit(
        count in 1..40_u8,
        scribbles in vec((any::<prop::sample::Index>(), vec(any::<u8>(), 1..300)), 1..4),
    ) {
        let (events, mut bytes, ends) = journal(count);
        let original = bytes.clone();
        for (at, scribble) in scribbles {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + scribble.len());
            bytes[at..end].copy_from_slice(&scribble[..end - at]);
        }
        let Lines { events: recovered, damage, .. } = recover(&bytes);
        let mut start = 0;
        for (event, end) in events.iter().zip(ends) {
            // A line begins after the end of the one before.
            let from = start.max(1) - 1;
            let intact = bytes[from..end] == original[from..end];
            // The converse does not hold: a scribble may hit the end of the line before.
            prop_assert!(!intact || recovered.contains(event));
            start = end;
        }
        prop_assert!(recovered.iter().all(|event| events.contains(event)));
        prop_assert!(recovered.is_sorted_by(|a, b| a.at < b.at));
        let lost: usize = damage.iter().map(|damage| damage.length).sum();
        let left: usize = recovered.iter().map(|e| record::encode(e, Marks::default()).unwrap().len()).sum();
        prop_assert_eq!(lost + left, bytes.len());

        let dir = directory(&bytes);
        let recovery = goes_on(&dir, &recovered, events[events.len() - 1].at);
        prop_assert!(recovered.is_empty() || recovery.damage == damage);
    }

    #[test]
    fn anything_can_be_read(bytes in vec(any::<u8>(), 0..2000)) {
        let Lines { events, damage, .. } = recover(&bytes);
        prop_assert!(events.is_empty());
        prop_assert_eq!(damage.iter().map(|damage| damage.length).sum::<usize>(), bytes.len());
    }
}
