//! Undelivered exits are kept, however many there are.

use std::fs;

use gantry_domain::ContainerId;
use tempfile::TempDir;

use crate::{
    record::recover,
    ring::{BACKLOG, Ring},
    tests::{all, append, append_all, container, exited, open, stored, times},
    *,
};

fn exits(log: &EventLog, count: usize) -> Vec<Event> {
    let life = |n: usize| {
        let container = container(&format!("c{n}"));
        [EventKind::ContainerStarted { pid: 0 }, exited(0)].map(|kind| NewEvent {
            container: container.clone(),
            generation: Generation(1),
            labels: gantry_domain::Labels::default(),
            kind,
        })
    };
    let mut events = append_all(log, (0..count).flat_map(life));
    events.retain(|event| matches!(event.kind, EventKind::Exited { .. }));
    events
}

fn only_exits(events: &[Event]) -> Vec<u64> {
    let exits = events.iter().filter(|event| matches!(event.kind, EventKind::Exited { .. }));
    exits.map(|event| event.at.0).collect()
}

/// A replay for a subscriber that dies before it has handled all of it.
fn broken_off(log: &EventLog, after: Timestamp) -> Vec<Event> {
    let mut subscription = log.subscribe(From::After(after), all());
    let mut handed = Vec::new();
    loop {
        match subscription.stored_part().unwrap() {
            batch if batch.is_empty() => return handed,
            batch => handed.extend(batch.iter().map(|event| (**event).clone())),
        }
    }
}

impl Subscription {
    /// As [`Self::stored`], for a subscriber that follows live events afterwards.
    fn stored_part(&mut self) -> Result<Vec<Arc<Event>>, Lagged> {
        self.channel().ring().read(self.id, self.stored_end)
    }
}

#[test]
fn exits_wait_for_a_subscriber_also_across_restarts() {
    let dir = TempDir::new().unwrap();
    let exits = exits(&open(dir.path(), 6), 3000);
    // Compacted several times meanwhile.
    let journal = dir.path().join(journal::FILE);
    assert!(recover(&fs::read(&journal).unwrap()).events.len() < 6000);
    let log = open(dir.path(), 6);
    let handed = broken_off(&log, Timestamp(0));
    let log = open(dir.path(), 6);
    // The subscriber has handled ten, and gets the others again.
    assert_eq!(handed[9], exits[9]);
    let again = stored(&log, handed[9].at);
    assert_eq!(only_exits(&again), times(&exits[10..]));
    // Those were delivered now; the first ten are not known to have arrived.
    let rest = stored(&log, Timestamp(0));
    assert_eq!(only_exits(&rest[..10]), times(&exits[..10]));
    assert_eq!(rest[10..], again[again.len() - 6..]);
    append(&log, 7000);
    let after = open(dir.path(), 6);
    assert_eq!(only_exits(&stored(&after, Timestamp(0))), Vec::<u64>::new());
    assert!(recover(&fs::read(&journal).unwrap()).events.len() <= 2000);
}

#[tokio::test]
async fn a_live_event_is_received_when_its_subscriber_asks_for_more() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 2);
    let mut live = log.subscribe(From::Now, all());
    let exits = exits(&log, 10);
    assert_eq!(live.next().await.unwrap().len(), 20);
    assert_eq!(only_exits(&broken_off(&log, exits[3].at)), times(&exits[4..]));
    append(&log, 1);
    let again = open(dir.path(), 2);
    assert_eq!(only_exits(&broken_off(&again, Timestamp(0))), times(&exits));

    assert_eq!(live.next().await.unwrap().len(), 1);
    append(&log, 1);
    assert_eq!(only_exits(&stored(&open(dir.path(), 2), Timestamp(0))), Vec::<u64>::new());
}

/// However it is read: what was stored, or live, or too late.
#[tokio::test]
async fn who_only_watches_receives_nothing() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 2);
    let mut early = log.watch(From::Now, Namespace::TYPES_API);
    let mut late = log.watch(From::Now, Namespace::TYPES_API);
    let exits = exits(&log, 10);
    assert_eq!(early.next().await.unwrap().len(), 20);
    append(&log, 1);
    assert_eq!(early.next().await.unwrap().len(), 1);
    let mut stored_ones = log.watch(From::After(Timestamp(0)), Namespace::TYPES_API);
    while !stored_ones.stored().unwrap().is_empty() {}
    drop(stored_ones);
    append(&log, BACKLOG + 3000);
    late.next().await.unwrap_err();
    drop((early, late));
    assert_eq!(only_exits(&stored(&log, Timestamp(0))), times(&exits));
    assert_eq!(only_exits(&stored(&log, Timestamp(0))), Vec::<u64>::new());
}

#[test]
fn a_subscription_from_now_on_receives_nothing_of_before() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 2);
    let before = exits(&log, 10);
    let mut live = log.subscribe(From::Now, all());
    let mut other = log.subscribe(
        From::After(Timestamp(0)),
        Filter { id: ContainerId::parse("c3").ok(), ..all() },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        append(&log, 1);
        runtime.block_on(live.next()).unwrap();
        while !other.stored().unwrap().is_empty() {}
    }
    // The exit of one container was delivered, to a subscriber that asked for that alone.
    let rest: Vec<_> = before.iter().filter(|event| event.container.id.as_str() != "c3").collect();
    let rest: Vec<_> = rest.into_iter().cloned().collect();
    assert_eq!(only_exits(&stored(&log, Timestamp(0))), times(&rest));
}

/// A subscriber that goes on reading has received the replay once it has read some thousands more.
#[test]
fn a_replay_has_arrived_when_thousands_came_after() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 2);
    let before = exits(&log, 10);
    let mut daemon = log.subscribe(From::After(Timestamp(0)), all());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut read = |count: usize| {
        let mut seen = 0;
        while seen < count {
            seen += runtime.block_on(daemon.next()).unwrap().len();
        }
    };
    read(11);
    append(&log, 4000);
    read(4000);
    assert_eq!(only_exits(&log_exits(&log)), times(&before));
    append(&log, 600);
    read(600);
    append(&log, 1);
    read(1);
    assert_eq!(only_exits(&log_exits(&log)), Vec::<u64>::new());
}

/// What a subscriber would get now, without counting as one.
fn log_exits(log: &EventLog) -> Vec<Event> {
    log.shared.types.ring().lasting().iter().map(|(event, _)| (**event).clone()).collect()
}

#[test]
fn missing_events_are_reported() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 4);
    let missing = |log: &EventLog, at| log.subscribe(From::After(at), all()).missing();
    assert_eq!(missing(&log, Timestamp(0)), None);
    let undelivered = exits(&log, 1);
    let others = append(&log, 5);
    assert_eq!(missing(&log, Timestamp(0)), Some(others[0].at));
    assert_eq!(missing(&log, undelivered[0].at), Some(others[0].at));
    assert_eq!(missing(&log, others[0].at), None);
    append(&log, 10_000);
    let end = others[0].at;
    for log in [log, open(dir.path(), 4)] {
        let delivered = missing(&log, end).unwrap();
        assert!(delivered > others[4].at);
        assert_eq!(missing(&log, delivered), None);
        assert_eq!(log.subscribe(From::Now, all()).missing(), None);
    }
}

#[test]
fn exits_beyond_the_bound_are_dropped_and_reported_missing() {
    let mut ring = Ring::new(10).with_backlog(100);
    let event = |at| {
        Arc::new(Event {
            at: Timestamp(at),
            container: container("a"),
            generation: Generation(1),
            labels: gantry_domain::Labels::default(),
            kind: exited(0),
        })
    };
    (1..=110).for_each(|at| ring.push(event(at)));
    assert_eq!(ring.subscribe(From::After(Timestamp(0)), 5, all()).1, None);
    let (slow, _) = ring.subscribe(From::After(Timestamp(0)), 5, all());
    (111..=200).for_each(|at| ring.push(event(at)));
    let (_, missing) = ring.subscribe(From::After(Timestamp(0)), 5, all());
    assert_eq!(missing, Some(Timestamp(5)));
    let lagged = Lagged { resume_after: Timestamp(5), in_replay: true };
    assert_eq!(ring.read(slow, u64::MAX).unwrap_err(), lagged);
    let mut read = Vec::new();
    loop {
        match ring.read(slow, u64::MAX).unwrap() {
            batch if batch.is_empty() => break,
            batch => read.extend(batch.iter().map(|event| event.at.0)),
        }
    }
    assert_eq!(read, (6..=200).collect::<Vec<_>>());
}

/// A subscriber that lagged gets what others have received when it asks again.
#[tokio::test]
async fn a_subscriber_too_far_behind_gets_missed_exits_again() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 4);
    let mut slow = log.subscribe(From::Now, all());
    let mut quick = log.subscribe(From::Now, all());
    let exits = exits(&log, 1000);
    let mut read = 0;
    while read < BACKLOG + 2000 {
        read += quick.next().await.unwrap().len();
        if read == 2000 {
            append(&log, BACKLOG);
        }
    }
    append(&log, 1);
    quick.next().await.unwrap();
    let Lagged { in_replay: false, .. } = slow.next().await.unwrap_err() else {
        panic!("it had nothing to read when it began");
    };
    drop((slow, quick));
    append(&log, 3000);
    // The first of the starts are gone.
    assert_eq!(only_exits(&stored(&log, Timestamp(0))), times(&exits));
}

/// A daemon that was handed a replay, and then followed what came until the server was killed, asks
/// for what comes next: what of the replay is not known to have arrived must not grow.
#[test]
fn undelivered_events_do_not_grow_with_restarts() {
    let dir = TempDir::new().unwrap();
    let mut at = Timestamp(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..10 {
        let log = open(dir.path(), 2);
        exits(&log, 3);
        let mut daemon = log.subscribe(From::After(at), all());
        for _ in 0..200 {
            exits(&log, 1);
            let batch = runtime.block_on(daemon.next()).unwrap();
            at = batch.last().unwrap().at;
        }
    }
    let left = only_exits(&log_exits(&open(dir.path(), 2)));
    let newest = REMEMBERED / 2;
    assert!(left.len() <= newest + 10 * 5, "{} exits", left.len());
}
