//! What a restart of the server does to calls that are made around it.

use std::time::{Duration, Instant};

use gantry_client::{
    Client, ContainerBuilder, ErrorKind, Signal, Stdio, oci_spec::runtime::Spec, types,
};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::fake::{Creation, Fake, PATIENCE};

fn creation(client: &Client, fake: &Fake) -> ContainerBuilder {
    client.create("web", &fake.bundle()).spec(Spec::default()).stdout(Stdio::Pipe)
}

/// Cuts the connections once a call is under way that is never answered.
async fn restart_when_broken(fake: &mut Fake) {
    fake.inner.broken.notified().await;
    fake.stop();
    fake.serve();
}

#[tokio::test]
async fn calls_that_only_read_are_repeated() {
    let mut fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    let client = fake.client().await;
    let container = client.container("web");
    for _ in 0..20 {
        fake.stop();
        fake.serve();
        // No pause: the client has not noticed yet that its connection is of no use.
        assert_eq!(client.state().await.unwrap().containers.len(), 1);
        fake.stop();
        fake.serve();
        client.server_version().await.unwrap();
        fake.stop();
        fake.serve();
        container.stats().await.unwrap();
    }
}

#[tokio::test]
async fn calls_wait_for_a_server_that_is_back_in_time() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    fake.stop();
    let (state, ()) = tokio::join!(client.state(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fake.serve();
    });
    state.unwrap();
}

#[tokio::test]
async fn patience_has_an_end() {
    let mut fake = Fake::start().await;
    let builder = Client::builder().patience(Duration::from_millis(300));
    let client = builder.connect(fake.dir.path().join("sock")).await.unwrap();
    fake.stop();
    let begun = Instant::now();
    let error = client.state().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:#}");
    // Far less than the patience that a client has by default.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    fake.serve();
    client.state().await.unwrap();
}

#[tokio::test]
async fn a_call_that_was_never_sent_is_sent_later_whatever_it_does() {
    let mut fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    let client = fake.client().await;
    fake.stop();
    // The client has time to notice.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let container = client.container("web");
    let (signalled, ()) = tokio::join!(container.signal(Signal::TERM), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.serve();
    });
    signalled.unwrap();
    assert_eq!(fake.log(), ["signal web/init 15"]);
}

#[tokio::test]
async fn a_container_that_was_started_without_an_answer_is_taken_as_it_is() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    *fake.inner.creation.lock().unwrap() = Creation::Breaks(true);
    let creating = creation(&client, &fake).start();
    let (created, ()) = tokio::join!(creating, restart_when_broken(&mut fake));
    let container = created.unwrap();
    assert_eq!(fake.log(), ["create web"]);
    assert_eq!(container.init().pid(), Some(42));
    assert!(fake.bundle().join("config.json").exists());
    fake.inner.exit("web", 6);
    assert_eq!(container.wait().await.unwrap().status, 6);
}

#[tokio::test]
async fn a_container_that_has_ended_meanwhile_was_started_all_the_same() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    *fake.inner.creation.lock().unwrap() = Creation::Breaks(true);
    let creating = creation(&client, &fake).start();
    let (created, ()) = tokio::join!(creating, async {
        fake.inner.broken.notified().await;
        fake.stop();
        fake.inner.exit("web", 4);
        fake.serve();
    });
    let container = created.unwrap();
    assert_eq!((fake.log(), container.init().pid()), (vec!["create web".to_owned()], None));
    assert_eq!(container.wait().await.unwrap().status, 4);
}

#[tokio::test]
async fn a_container_that_never_was_is_created_again() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    *fake.inner.creation.lock().unwrap() = Creation::Breaks(false);
    let creating = creation(&client, &fake).start();
    let (created, ()) = tokio::join!(creating, restart_when_broken(&mut fake));
    created.unwrap();
    assert_eq!(fake.log(), ["create web", "create web", "created"]);
    // A server that knows the key has one container of both; the next one has a key of its own.
    client.create("db", &fake.dir.path().join("db")).spec(Spec::default()).start().await.unwrap();
    let keys = fake.inner.keys.lock().unwrap().clone();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
}

#[tokio::test]
async fn a_program_that_must_not_run_twice_is_not_started_again() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    *fake.inner.creation.lock().unwrap() = Creation::Breaks(false);
    let creating = creation(&client, &fake).at_most_once().start();
    let (created, ()) = tokio::join!(creating, restart_when_broken(&mut fake));
    let error = created.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:#}");
    assert_eq!(fake.log(), ["create web"]);
    assert!(!fake.bundle().exists());
}

/// Its refusal is an answer, unlike that of a server that stops.
#[tokio::test]
async fn a_server_that_cannot_start_anything_is_not_asked_again() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let broken = Status::unavailable("the shim cannot be executed");
    *fake.inner.creation.lock().unwrap() = Creation::Fails(broken);
    let begun = Instant::now();
    creation(&client, &fake).start().await.unwrap_err();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!(fake.log(), ["create web"]);
}

#[tokio::test]
async fn statistics_are_a_stream_that_ends_with_the_container() {
    let mut fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    let client = fake.client().await;
    let mut readings = client.container("web").stats_stream(Duration::from_millis(10));
    assert!(readings.next().await.unwrap().is_some());
    fake.stop();
    fake.serve();
    assert!(StreamExt::next(&mut readings).await.unwrap().is_ok());
    fake.inner.exit("web", 0);
    assert!(StreamExt::next(&mut readings).await.is_none());
    assert!(readings.next().await.unwrap().is_none());
}

#[tokio::test]
async fn every_clone_hears_the_exit_and_one_has_the_streams() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let container = creation(&client, &fake).start().await.unwrap();
    let clones = [container.clone(), container.clone()];
    let waits: Vec<_> =
        clones.iter().cloned().map(|c| tokio::spawn(async move { c.wait().await })).collect();
    assert!(clones[0].take_stdio().stdout.is_some());
    assert!(container.take_stdio().stdout.is_none() && clones[1].take_stdio().stdout.is_none());
    fake.inner.exit("web", 3);
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap().status, 3);
    }
    assert_eq!(container.wait().await.unwrap().status, 3);
    // Also one that the server is not known to have.
    let detached = client.container("web");
    assert_eq!(detached.clone().wait().await.unwrap().status, 3);
}
