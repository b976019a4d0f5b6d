//! Events across restarts of both sides.

use std::{sync::Arc, time::Duration};

use gantry_client::{
    ErrorKind, EventFilter, EventFollower, EventHandler, EventKind, StateChange, Timestamp, types,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::StreamExt;

use crate::fake::{Fake, PATIENCE};

fn from_the_beginning() -> EventFilter {
    EventFilter::default().since(Timestamp::default())
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_event_after_an_error() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    let mut events = client.events(from_the_beginning().container("web"));
    fake.inner.publish("pause", "web", 0);
    fake.inner.publish("pause", "other", 0);
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Paused);
    fake.stop();
    fake.inner.publish("resume", "web", 0);
    fake.serve();
    events.next().await.unwrap_err();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Resumed);
    fake.inner.publish("oom", "web", 0);
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::OutOfMemory);
}

#[tokio::test]
async fn stored_events_have_an_end() {
    let fake = Fake::start().await;
    fake.inner.publish("pause", "web", 0);
    let client = fake.client().await;
    let mut events = client.events(from_the_beginning().stored_only());
    assert!(events.next().await.unwrap().is_some());
    assert!(events.next().await.unwrap().is_none());
    assert!(events.next().await.unwrap().is_none(), "an end is an end");
}

/// What libraries of streams make of it.
#[tokio::test]
async fn events_are_a_stream_for_everybody_else() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    for kind in ["pause", "resume", "oom"] {
        fake.inner.publish(kind, "web", 0);
    }
    let stored = client.events(from_the_beginning().stored_only());
    let kinds: Vec<_> = stored.map(|event| event.unwrap().kind).collect().await;
    assert_eq!(kinds, [EventKind::Paused, EventKind::Resumed, EventKind::OutOfMemory]);

    let mut events = client.events(from_the_beginning()).skip(2);
    assert!(StreamExt::next(&mut events).await.unwrap().is_ok());
    fake.stop();
    fake.inner.publish("pause", "web", 0);
    fake.serve();
    let delivered: Vec<_> = events.take(2).collect().await;
    assert!(matches!(delivered[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable(_)));
    assert_eq!(delivered[1].as_ref().unwrap().kind, EventKind::Paused);
}

#[tokio::test]
async fn pausing_returns_with_its_event() {
    let fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    let container = fake.client().await.container("web");
    container.pause().await.unwrap();
    container.resume().await.unwrap();
    assert_eq!(fake.log(), ["set web paused", "set web running"]);
}

struct Recorder(mpsc::UnboundedSender<StateChange>);

impl EventHandler for Recorder {
    async fn handle(&self, change: StateChange) {
        self.0.send(change).unwrap();
    }
}

/// Runs a follower until it has delivered so many changes, and then lets it save.
async fn follow(fake: &Fake, count: usize) -> Vec<StateChange> {
    let client = fake.client().await;
    let file = fake.dir.path().join("event.ts");
    let (sender, mut changes) = mpsc::unbounded_channel();
    let follower = EventFollower::open(&client, &file).await.unwrap();
    let task = tokio::spawn(follower.run(Arc::new(Recorder(sender))));
    let mut delivered = Vec::new();
    for _ in 0..count {
        delivered.push(timeout(PATIENCE, changes.recv()).await.unwrap().unwrap());
    }
    if let Some(last) = delivered.last() {
        let saved = async {
            while std::fs::read_to_string(&file).unwrap() != last.event.time.to_string() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, saved).await.unwrap();
    }
    task.abort();
    delivered
}

#[tokio::test]
async fn a_follower_goes_on_where_the_last_one_was_and_remembers_an_oom() {
    let fake = Fake::start().await;
    fake.inner.publish("pause", "web", 0);
    assert!(follow(&fake, 0).await.is_empty(), "began before its time");
    fake.inner.publish("oom", "web", 0);
    let delivered = follow(&fake, 1).await;
    assert_eq!(delivered[0].event.kind, EventKind::OutOfMemory);
    fake.inner.publish("exit", "web/init", 137);
    fake.inner.publish("exit", "web/init", 0);
    let delivered = follow(&fake, 2).await;
    assert_eq!(delivered[0].event.kind, EventKind::Exited { process: "init".into(), status: 137 });
    assert!(delivered[0].out_of_memory);
    assert!(!delivered[1].out_of_memory, "of an earlier life");
}
