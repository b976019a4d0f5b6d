//! The log as its users see it.

use std::path::Path;

use gantry_domain::{ContainerId, Exit, ExitStatus, Namespace, ProcessId};
use tempfile::TempDir;

use crate::*;

pub(crate) fn container(id: &str) -> ContainerKey {
    ContainerKey { namespace: Namespace::TYPES_API, id: ContainerId::parse(id).unwrap() }
}

/// For tests without a runtime, and inside of one whose thread may wait.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    // Tokio's budget of a task would have this wait for ever once it is used up.
    let mut future = std::pin::pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// Adds them as fast as a server with many containers does: none is waited for before the next.
pub(crate) fn append_all(log: &EventLog, new: impl IntoIterator<Item = NewEvent>) -> Vec<Event> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let begin = |new| {
        let mut appending = Box::pin(tokio::task::unconstrained(log.append(new)));
        match appending.as_mut().poll(&mut context) {
            std::task::Poll::Ready(appended) => Ok(appended),
            std::task::Poll::Pending => Err(appending),
        }
    };
    let begun: Vec<_> = new.into_iter().map(begin).collect();
    let end = |begun: Result<Appended, _>| begun.unwrap_or_else(wait);
    begun.into_iter().map(end).map(|appended| (*appended.event).clone()).collect()
}

impl EventLog {
    pub(crate) fn append_now(
        &self,
        container: &ContainerKey,
        generation: Generation,
        kind: EventKind,
    ) -> Appended {
        wait(self.append(NewEvent {
            container: container.clone(),
            generation,
            labels: Labels::default(),
            kind,
        }))
    }

    pub(crate) fn publish_now(&self, publication: Publication) -> Result<(), TooLong> {
        wait(self.publish(publication))
    }

    pub(crate) fn mark_obsolete_now(
        &self,
        of: &ContainerKey,
        generation: Generation,
        process: &ProcessId,
    ) {
        wait(self.mark_obsolete(of, generation, process));
    }

    pub(crate) fn flush_now(&self) -> bool {
        wait(self.flush())
    }
}

pub(crate) fn all() -> Filter {
    Filter::all(Namespace::TYPES_API)
}

pub(crate) fn exited(code: u8) -> EventKind {
    let process = ProcessId::init();
    EventKind::Exited {
        process,
        generation: Generation(1),
        pid: 0,
        exit: Exit { status: ExitStatus::Code(code), at: Timestamp(1) },
    }
}

/// The log of an undamaged state directory.
pub(crate) fn open(dir: &Path, retain: usize) -> EventLog {
    let (log, recovery) = EventLog::open(dir, retain).unwrap();
    assert!(recovery.is_clean(), "{recovery}");
    log
}

/// The times of events, which are compared where there are many.
pub(crate) fn times(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.at.0).collect()
}

pub(crate) fn append(log: &EventLog, count: usize) -> Vec<Event> {
    let new = |_| NewEvent {
        container: container("a"),
        generation: Generation(1),
        labels: gantry_domain::Labels::default(),
        kind: EventKind::Paused,
    };
    append_all(log, (0..count).map(new))
}

/// All stored events after that one.
pub(crate) fn stored(log: &EventLog, after: Timestamp) -> Vec<Event> {
    let mut subscription = log.subscribe(From::After(after), all());
    let mut events = Vec::new();
    loop {
        match subscription.stored().unwrap() {
            batch if batch.is_empty() => return events,
            batch => events.extend(batch.iter().map(|event| (**event).clone())),
        }
    }
}

/// The next `count` events.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = subscription.next().await.unwrap();
        assert!(!batch.is_empty());
        events.extend(batch.iter().map(|event| (**event).clone()));
    }
    events
}

#[test]
fn events_survive_a_restart_and_others_follow_them() {
    let dir = TempDir::new().unwrap();
    let mut events = append(&open(dir.path(), 500), 3);
    let log = open(dir.path(), 500);
    assert_eq!(stored(&log, Timestamp(0)), events);
    events.extend(append(&log, 2));
    assert!(events.is_sorted_by(|a, b| a.at < b.at));
    assert_eq!(stored(&log, Timestamp(0)), events);
    assert_eq!(stored(&log, events[2].at), events[3..]);
    assert_eq!(stored(&open(dir.path(), 500), Timestamp(0)), events);
}

#[test]
fn the_last_ones_are_kept_for_replay() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 3);
    let events = append(&log, 10);
    for log in [log, open(dir.path(), 3)] {
        assert_eq!(stored(&log, Timestamp(0)), events[7..]);
        assert_eq!(stored(&log, events[8].at), events[9..]);
    }
}

#[tokio::test]
async fn without_replay_there_are_live_events_only() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 0);
    append(&log, 3);
    assert_eq!(stored(&log, Timestamp(0)), []);
    let mut subscription = log.subscribe(From::After(Timestamp(0)), all());
    let events = append(&log, 2);
    assert_eq!(read(&mut subscription, 2).await, events);
    assert_eq!(stored(&log, Timestamp(0)), []);
    assert!(
        open(dir.path(), 0).recorded(&container("a"), Generation(1), |k| *k == EventKind::Paused)
    );
}

#[test]
fn knows_what_it_recorded() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    log.append_now(&container("a"), Generation(1), EventKind::ContainerStarted { pid: 0 });
    log.append_now(&container("a"), Generation(2), exited(3));
    for log in [log, open(dir.path(), 500)] {
        let recorded = |id, generation, kind| {
            log.recorded(&container(id), Generation(generation), |k| *k == kind)
        };
        assert!(recorded("a", 1, EventKind::ContainerStarted { pid: 0 }));
        assert!(recorded("a", 2, exited(3)));
        assert!(!recorded("a", 1, exited(3)));
        assert!(!recorded("a", 2, exited(4)));
        assert!(!recorded("b", 2, exited(3)));
    }
}

#[tokio::test]
async fn a_subscriber_waits_for_what_comes() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    append(&log, 1);
    let mut subscription = log.subscribe(From::Now, all());
    let reader = tokio::spawn(async move { read(&mut subscription, 1).await });
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    let events = append(&log, 1);
    assert_eq!(reader.await.unwrap(), events);
}

#[test]
fn a_clock_that_is_set_back_does_not_matter() {
    fn late() -> Timestamp {
        Timestamp(3_000_000_000_000_000_000)
    }
    fn early() -> Timestamp {
        Timestamp(1)
    }
    let dir = TempDir::new().unwrap();
    let first = append(&EventLog::open_at(dir.path(), 500, late).unwrap().0, 3);
    assert_eq!(first[0].at, late());
    let second = append(&EventLog::open_at(dir.path(), 500, early).unwrap().0, 3);
    assert_eq!(second[0].at.0, first[2].at.0 + 1);
    assert_eq!(stored(&open(dir.path(), 500), Timestamp(0)), [first, second].concat());
}

#[test]
fn the_file_stays_small() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 1200);
    let events = append(&log, 10_000);
    let lines = || std::fs::read_to_string(dir.path().join(journal::FILE)).unwrap();
    assert!((1200..=2400).contains(&lines().lines().count()));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // The compacted file is the one that is written to.
    let more = append(&log, 5);
    let log = open(dir.path(), 1200);
    assert_eq!(stored(&log, Timestamp(0)), [&events[8805..], &more].concat());
}

#[test]
fn a_panic_elsewhere_does_not_end_the_log() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let mut events = append(&log, 1);
    let other = log.clone();
    let panicked = std::thread::spawn(move || {
        other.recorded(&container("a"), Generation(1), |_| panic!("under the lock"))
    });
    assert!(panicked.join().is_err());
    assert!(log.shared.types.ring.is_poisoned());
    events.extend(append(&log, 1));
    assert_eq!(stored(&log, Timestamp(0)), events);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_gets_lagged() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let mut subscription = log.subscribe(From::Now, all());
    let events = append(&log, 70_000);
    let Lagged { resume_after, in_replay: false } = subscription.next().await.unwrap_err() else {
        panic!("it had nothing to read when it began");
    };
    let resumed = events.iter().position(|event| event.at > resume_after).unwrap();
    assert_eq!(events.len() - resumed, 65_536 + REMEMBERED);
    assert_eq!(read(&mut subscription, events.len() - resumed).await, events[resumed..]);
}

/// As in a server with many monitors, each of which comes back once while events are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stored_and_live_events_have_no_gap_and_no_repeat() {
    const EVENTS: usize = 20_000;
    const WRITERS: usize = 4;
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), EVENTS);
    let reader = async |log: EventLog, first: usize| {
        let mut events: Vec<Arc<Event>> = Vec::new();
        for part in [first, EVENTS] {
            let seen = events.last().map_or(Timestamp(0), |event| event.at);
            let mut subscription = log.subscribe(From::After(seen), all());
            while events.len() < part {
                events.extend(subscription.next().await.unwrap());
            }
        }
        events.iter().map(|event| event.at).collect::<Vec<_>>()
    };
    let readers: Vec<_> =
        (0..100).map(|n| tokio::spawn(reader(log.clone(), n * EVENTS / 100))).collect();
    let write = |log: EventLog| move || append(&log, EVENTS / WRITERS);
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::task::spawn_blocking(write(log.clone()))).collect();
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.unwrap().iter().map(|event| event.at));
    }
    written.sort();
    for reader in readers {
        assert!(reader.await.unwrap() == written);
    }
}

/// The change may take locks that others wait for, and no lock may be held while a disk is waited for.
#[test]
fn a_change_runs_when_its_event_is_in_the_journal() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let (reader, path, noted) = (log.clone(), dir.path().join(journal::FILE), Arc::clone(&steps));
    let new = NewEvent {
        container: container("a"),
        generation: Generation(1),
        labels: Labels::default(),
        kind: exited(3),
    };
    wait(log.append_within(new, move |show| {
        let is_there =
            || reader.recorded(&container("a"), Generation(1), |kind| *kind == exited(3));
        let lines = std::fs::read_to_string(path).unwrap();
        let mut steps = noted.lock().unwrap();
        steps.push((lines.lines().count(), is_there()));
        show();
        steps.push((lines.lines().count(), is_there()));
    }));
    assert_eq!(*steps.lock().unwrap(), [(1, false), (1, true)]);
}

#[test]
fn a_subscriber_reads_its_own_namespace() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let moby = Namespace::named("moby").unwrap();
    let theirs = ContainerKey { namespace: moby.clone(), ..container("a") };
    for key in [&container("a"), &theirs] {
        log.append_now(key, Generation(1), EventKind::ContainerStarted { pid: 0 });
        log.append_now(key, Generation(1), exited(0));
    }
    drop(log);
    let log = open(dir.path(), 500);
    // Everything is handed out; what does not match does not count as received.
    for filter in [all(), Filter::all(moby)] {
        let mut subscription = log.subscribe(From::After(Timestamp(0)), filter.clone());
        let read = subscription.stored().unwrap();
        let own: Vec<_> = read.iter().filter(|e| filter.matches(&e.container)).collect();
        assert_eq!(own.len(), 2, "{filter:?}");
        assert!(own.iter().all(|event| event.container.namespace == filter.namespace));
    }
}
