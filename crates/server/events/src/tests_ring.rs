//! What is kept in memory, for whom, and for how long.

use std::sync::Arc;

use gantry_domain::{
    ContainerId, ContainerKey, Event, EventKind, Generation, Namespace, Timestamp,
};

use crate::{
    From,
    ring::{Ring, SubscriptionId},
    subscription::Lagged,
    tests::all,
};

fn event(at: u64) -> Arc<Event> {
    let id = ContainerId::parse("a").unwrap();
    let container = ContainerKey { namespace: Namespace::TYPES_API, id };
    Arc::new(Event {
        at: Timestamp(at),
        container,
        generation: Generation(1),
        labels: gantry_domain::Labels::default(),
        kind: EventKind::Paused,
    })
}

/// A ring that keeps ten, and another ten for somebody slow, with the events 1 to `count`.
fn ring(count: u64) -> Ring {
    let mut ring = Ring::new(10).with_backlog(10);
    for at in 1..=count {
        ring.push(event(at));
    }
    ring
}

fn read(ring: &mut Ring, id: SubscriptionId) -> Result<Vec<u64>, Lagged> {
    let batch = ring.read(id, u64::MAX)?;
    Ok(batch.iter().map(|event| event.at.0).collect())
}

fn held(ring: &Ring) -> Vec<u64> {
    let mut held: Vec<_> = ring.iter().map(|event| event.at.0).collect();
    held.reverse();
    held
}

#[test]
fn keeps_the_newest() {
    let mut ring = ring(25);
    assert_eq!(held(&ring), (16..=25).collect::<Vec<_>>());
    let old = ring.subscribe(From::After(Timestamp(3)), 10, all()).0;
    assert_eq!(read(&mut ring, old), Ok((16..=25).collect()));
    let few = ring.subscribe(From::After(Timestamp(3)), 2, all()).0;
    assert_eq!(read(&mut ring, few), Ok(vec![24, 25]));
    let exact = ring.subscribe(From::After(Timestamp(22)), 10, all()).0;
    assert_eq!(read(&mut ring, exact), Ok(vec![23, 24, 25]));
    let none = ring.subscribe(From::After(Timestamp(25)), 10, all()).0;
    assert_eq!(read(&mut ring, none), Ok(vec![]));
    let live = ring.subscribe(From::Now, 10, all()).0;
    assert_eq!(read(&mut ring, live), Ok(vec![]));
    ring.push(event(26));
    for id in [old, few, exact, none, live] {
        assert_eq!(read(&mut ring, id), Ok(vec![26]));
    }
}

#[test]
fn holds_what_the_slowest_has_not_read_and_no_longer() {
    let mut ring = ring(20);
    let slow = ring.subscribe(From::After(Timestamp(0)), 10, all()).0;
    let slower = ring.subscribe(From::After(Timestamp(0)), 10, all()).0;
    (21..=27).for_each(|at| ring.push(event(at)));
    assert_eq!(held(&ring), (11..=27).collect::<Vec<_>>());
    assert_eq!(read(&mut ring, slow), Ok((11..=27).collect()));
    assert_eq!(held(&ring), (11..=27).collect::<Vec<_>>());
    ring.unsubscribe(slower);
    assert_eq!(held(&ring), (18..=27).collect::<Vec<_>>());
}

#[test]
fn one_too_far_behind_gets_lagged_once_and_goes_on() {
    let mut ring = ring(5);
    let slow = ring.subscribe(From::Now, 10, all()).0;
    (6..=25).for_each(|at| ring.push(event(at)));
    let mut just_in_time = ring.subscribe(From::After(Timestamp(0)), 20, all()).0;
    assert_eq!(read(&mut ring, just_in_time), Ok((6..=25).collect()));
    just_in_time = ring.subscribe(From::After(Timestamp(0)), 20, all()).0;
    ring.push(event(26));
    for (late, in_replay) in [(slow, false), (just_in_time, true)] {
        let lagged = Lagged { resume_after: Timestamp(6), in_replay };
        assert_eq!(read(&mut ring, late), Err(lagged));
        assert_eq!(read(&mut ring, late), Ok((7..=26).collect()));
        assert_eq!(read(&mut ring, late), Ok(vec![]));
    }
    assert_eq!(held(&ring), (17..=26).collect::<Vec<_>>());
}

#[test]
fn hands_out_batches_up_to_an_end() {
    let mut ring = Ring::new(1000);
    (1..=600).for_each(|at| ring.push(event(at)));
    let id = ring.subscribe(From::After(Timestamp(0)), 1000, all()).0;
    let end = ring.end();
    (601..=700).for_each(|at| ring.push(event(at)));
    let batches: Vec<_> = (0..4).map(|_| ring.read(id, end).unwrap().len()).collect();
    assert_eq!(batches, [256, 256, 88, 0]);
    assert_eq!(read(&mut ring, id), Ok((601..=700).collect()));
}

#[test]
fn memory_goes_back_when_all_have_read() {
    let mut ring = Ring::new(10);
    let slow = ring.subscribe(From::Now, 10, all()).0;
    (1..=20_000).for_each(|at| ring.push(event(at)));
    assert!(ring.capacity() >= 20_000);
    while !read(&mut ring, slow).unwrap().is_empty() {}
    assert_eq!(held(&ring).len(), 10);
    assert!(ring.capacity() < 100, "{}", ring.capacity());
}
