//! What a follower of named namespaces gets: undelivered exits and OOM kills, then all events to come.

use std::slice;

use gantry_domain::{Created, Exit, ExitStatus, ProcessId};
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use crate::{
    ring::BACKLOG,
    tests::{open, times},
    *,
};

pub(crate) fn named(namespace: &str, id: &str) -> ContainerKey {
    let namespace = Namespace::named(namespace).unwrap();
    ContainerKey { namespace, ..crate::tests::container(id) }
}

fn init() -> ProcessId {
    ProcessId::init()
}

fn exec(id: &str) -> ProcessId {
    ProcessId::parse(id).unwrap()
}

fn exit_of(process: ProcessId) -> EventKind {
    let exit = Exit { status: ExitStatus::Code(3), at: Timestamp(1) };
    EventKind::Exited { process, generation: Generation(2), pid: 7, exit }
}

fn deleted() -> EventKind {
    EventKind::Deleted { pid: 7, exit: Exit { status: ExitStatus::Code(3), at: Timestamp(1) } }
}

/// Adds events of one container.
fn add<const N: usize>(log: &EventLog, of: &ContainerKey, kinds: [EventKind; N]) -> [Event; N] {
    kinds.map(|kind| (*log.append_now(of, Generation(1), kind).event).clone())
}

fn follow(log: &EventLog, namespace: &'static str) -> Follower {
    log.follow(move |event| event.container.namespace.name() == namespace)
}

fn containers(entries: Vec<Entry>) -> Vec<Event> {
    let event = |entry| match entry {
        Entry::Container(event) => (*event).clone(),
        Entry::Published(published) => panic!("{published:?}"),
    };
    entries.into_iter().map(event).collect()
}

fn mark(log: &EventLog) -> Event {
    let [mark] = add(log, &named("mark", "mark"), [EventKind::Resumed]);
    mark
}

/// What a new follower begins with. It does not ask for more, so this does not count as received.
async fn offered(log: &EventLog, namespace: &'static str) -> Vec<Event> {
    let mut follower = follow(log, namespace);
    let mark = mark(log);
    let mut batch = containers(follower.next().await.unwrap());
    batch.retain(|event| *event != mark);
    batch
}

/// As [`offered`], for a follower that asks for more.
async fn delivered(log: &EventLog, namespace: &'static str) -> Vec<Event> {
    let mut follower = follow(log, namespace);
    let mut read = Vec::new();
    let first = mark(log);
    while read.last() != Some(&first) {
        read.extend(containers(follower.next().await.unwrap()));
    }
    read.pop();
    mark(log);
    follower.next().await.unwrap();
    read
}

/// A log as it is after a kill at this moment, in a directory of its own.
fn killed(dir: &TempDir) -> (EventLog, TempDir) {
    let copy = TempDir::new().unwrap();
    std::fs::copy(dir.path().join(journal::FILE), copy.path().join(journal::FILE)).unwrap();
    (open(copy.path(), 500), copy)
}

/// What it has received is in the journal afterwards.
async fn noted(log: &EventLog) {
    let noting = log.clone();
    let noting = tokio::spawn(async move { noting.note_receipts().await });
    sleep(Duration::from_secs(1)).await;
    // Tokio's paused time does not wait for the thread that writes the journal.
    log.flush().await;
    noting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_follower_begins_with_undelivered_exits_and_ooms() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let a = named("moby", "a");
    let created = EventKind::Created(Box::default());
    let [_, _, _, exec_exit, oom, exit] = add(
        &log,
        &a,
        [
            created,
            EventKind::ContainerStarted { pid: 7 },
            EventKind::Paused,
            exit_of(exec("e")),
            EventKind::OutOfMemory,
            exit_of(init()),
        ],
    );
    add(&log, &named("moby", "gone"), [EventKind::OutOfMemory, exit_of(init()), deleted()]);
    add(&log, &crate::tests::container("a"), [EventKind::OutOfMemory, exit_of(init())]);
    let undelivered = [exec_exit, oom, exit];
    // However often the server is killed before they are delivered.
    drop(log);
    for _ in 0..3 {
        let log = open(dir.path(), 500);
        assert_eq!(offered(&log, "moby").await, undelivered);
        assert_eq!(offered(&log, "moby").await, undelivered);
    }
    let log = open(dir.path(), 500);
    assert_eq!(delivered(&log, "moby").await, undelivered);
    // Nothing comes twice, also after a restart.
    assert_eq!(delivered(&log, "moby").await, []);
    noted(&log).await;
    assert_eq!(delivered(&killed(&dir).0, "moby").await, []);
}

#[tokio::test(start_paused = true)]
async fn what_was_received_live_does_not_come_again() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let mut follower = follow(&log, "moby");
    let a = named("moby", "a");
    let live = add(&log, &a, [exit_of(exec("e")), EventKind::OutOfMemory]);
    assert_eq!(containers(follower.next().await.unwrap()), live);
    // The follower has not asked for more: they may not have arrived.
    let [exit] = add(&log, &a, [exit_of(init())]);
    noted(&log).await;
    let all = [live[0].clone(), live[1].clone(), exit.clone()];
    assert_eq!(offered(&killed(&dir).0, "moby").await, all);
    assert_eq!(containers(follower.next().await.unwrap()), slice::from_ref(&exit));
    noted(&log).await;
    assert_eq!(offered(&killed(&dir).0, "moby").await, slice::from_ref(&exit));
    // The connection breaks, with that on its way.
    drop(follower);
    assert_eq!(offered(&log, "moby").await, [exit]);
}

#[tokio::test(start_paused = true)]
async fn who_only_watches_named_namespaces_receives_nothing() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let exits = add(&log, &named("moby", "a"), [exit_of(exec("e")), exit_of(init())]);
    let mut watcher = log.watch_named();
    assert_eq!(containers(watcher.next().await.unwrap()), exits);
    mark(&log);
    watcher.next().await.unwrap();
    noted(&log).await;
    assert_eq!(offered(&killed(&dir).0, "moby").await, exits);
    assert_eq!(delivered(&log, "moby").await, exits);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_delivered_where_the_filters_exclude_it() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let exits = ["one", "two", "one"].map(|namespace| {
        let [exit] = add(&log, &named(namespace, "a"), [exit_of(init())]);
        exit
    });
    // Everything is handed out, whatever matches.
    assert_eq!(delivered(&log, "two").await, exits);
    noted(&log).await;
    let of_one = [exits[0].clone(), exits[2].clone()];
    for log in [log, killed(&dir).0] {
        assert_eq!(delivered(&log, "three").await, of_one);
    }
    let (log, dir) = killed(&dir);
    assert_eq!(delivered(&log, "one").await, of_one);
    noted(&log).await;
    assert_eq!(delivered(&killed(&dir).0, "one").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_published_event_reaches_those_who_follow_at_the_time() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let [before] = add(&log, &named("moby", "a"), [exit_of(init())]);
    let mut followers = [follow(&log, "moby"), follow(&log, "moby")];
    for follower in &mut followers {
        assert_eq!(containers(follower.next().await.unwrap()), slice::from_ref(&before));
    }
    let [live] = add(&log, &named("moby", "b"), [exit_of(init())]);
    for follower in &mut followers {
        assert_eq!(containers(follower.next().await.unwrap()), slice::from_ref(&live));
    }
    add(&log, &named("mark", "mark"), [EventKind::Paused]);
    followers[1].next().await.unwrap();
    assert_eq!(offered(&log, "moby").await, []);
}

#[tokio::test(start_paused = true)]
async fn exits_of_what_was_deleted_are_not_delivered() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let (a, b) = (named("moby", "a"), named("moby", "b"));
    let [_, other, _] = add(&log, &a, [exit_of(exec("e")), exit_of(exec("f")), exit_of(init())]);
    let [of_b] = add(&log, &b, [exit_of(exec("e"))]);
    log.mark_obsolete_now(&a, Generation(1), &exec("e"));
    log.mark_obsolete_now(&a, Generation(2), &exec("f"));
    log.mark_obsolete_now(&a, Generation(1), &init());
    for log in [&log, &killed(&dir).0] {
        assert_eq!(offered(log, "moby").await, [other.clone(), of_b.clone()]);
    }
    // Once the id is used again, the exit of the container before is obsolete.
    add(&log, &a, [EventKind::Created(Box::<Created>::default())]);
    for log in [&log, &killed(&dir).0] {
        assert_eq!(offered(log, "moby").await, slice::from_ref(&of_b));
    }
    // Also for one who has begun to follow before.
    let mut follower = follow(&log, "moby");
    let [delete] = add(&log, &b, [deleted()]);
    assert_eq!(containers(follower.next().await.unwrap()), [delete]);
}

#[tokio::test(start_paused = true)]
async fn a_compacted_journal_knows_what_was_received() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let exits = add(&log, &named("moby", "a"), [EventKind::OutOfMemory, exit_of(init())]);
    assert_eq!(delivered(&log, "moby").await, exits);
    let undelivered = add(&log, &named("moby", "b"), [EventKind::OutOfMemory, exit_of(init())]);
    let [obsolete] = add(&log, &named("moby", "c"), [exit_of(exec("e"))]);
    log.mark_obsolete_now(&obsolete.container, obsolete.generation, &exec("e"));
    // Twice: they are among the newest, then older than those. Compaction notes what was received.
    for count in [1990, 5000] {
        crate::tests::append(&log, count);
        for _ in 0..count {
            add(&log, &named("other", "x"), [EventKind::Paused]);
        }
        assert_eq!(offered(&killed(&dir).0, "moby").await, undelivered);
        assert_eq!(offered(&log, "moby").await, undelivered);
    }
}

/// The events that it missed are gone, but for exits and OOM kills.
#[tokio::test(start_paused = true)]
async fn one_too_far_behind_follows_again() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let mut slow = follow(&log, "moby");
    let kept = add(&log, &named("moby", "a"), [EventKind::OutOfMemory, exit_of(init())]);
    for _ in 0..BACKLOG + 2 * REMEMBERED {
        add(&log, &named("moby", "b"), [EventKind::Paused]);
    }
    let Lagged { resume_after, in_replay: false } = slow.next().await.unwrap_err() else {
        panic!("it had nothing to read when it began");
    };
    assert!(resume_after > kept[1].at);
    drop(slow);
    assert_eq!(delivered(&log, "moby").await, kept);
    assert_eq!(delivered(&log, "moby").await, []);
}

/// Containers of named namespaces do not shorten what `types.API` replays, and do not count as missing there.
#[tokio::test(start_paused = true)]
async fn neither_api_pushes_out_events_of_the_other() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let exits = add(&log, &named("moby", "a"), [EventKind::OutOfMemory, exit_of(init())]);
    let types = crate::tests::append(&log, 3);
    for _ in 0..3000 {
        add(&log, &named("moby", "b"), [EventKind::Resumed]);
    }
    for log in [&log, &killed(&dir).0] {
        let subscription = log.subscribe(From::After(Timestamp(0)), crate::tests::all());
        assert_eq!(subscription.missing(), None);
        assert_eq!(times(&crate::tests::stored(log, Timestamp(0))), times(&types));
        let of = &types[0].container;
        assert!(log.recorded(of, Generation(1), |kind| *kind == EventKind::Paused));
        assert_eq!(offered(log, "moby").await, exits);
    }
}
