//! Connections of the caller's own making, and what calls may take on them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_client::{Channel, Client, ErrorKind};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use crate::fake::{Fake, PATIENCE};

#[tokio::test]
async fn a_connector_is_called_for_every_connection() {
    let mut fake = Fake::start().await;
    let (path, count) = (fake.dir.path().join("sock"), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let connector = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        UnixStream::connect(path.clone())
    };
    let client = Client::builder().connect_by(connector).await.unwrap();
    client.state().await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    fake.stop();
    fake.serve();
    client.state().await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

/// As a server that is killed after it accepted a connection and before the first byte on it.
#[tokio::test]
async fn a_connection_that_is_closed_before_the_first_byte_is_tried_again() {
    let fake = Fake::start().await;
    let (path, count) = (fake.dir.path().join("sock"), AtomicUsize::new(0));
    let connector = move || {
        let early = count.fetch_add(1, Ordering::Relaxed) < 3;
        let path = path.clone();
        async move { if early { Ok(UnixStream::pair()?.0) } else { UnixStream::connect(path).await } }
    };
    let client = Client::builder().connect_by(connector).await.unwrap();
    client.state().await.unwrap();
}

fn lazy_channel(fake: &Fake) -> Channel {
    let address = format!("unix://{}", fake.dir.path().join("sock").display());
    Endpoint::from_shared(address).unwrap().connect_lazy()
}

#[tokio::test]
async fn a_channel_that_does_not_wait_for_servers_is_asked_again() {
    let mut fake = Fake::start().await;
    let client = Client::builder().patience(PATIENCE).channel(lazy_channel(&fake));
    client.state().await.unwrap();
    fake.stop();
    let (state, ()) = tokio::join!(client.state(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fake.serve();
    });
    state.unwrap();
}

#[tokio::test]
async fn a_call_takes_no_longer_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    // The kernel accepts the connection, and nobody answers.
    let _silent = tokio::net::UnixListener::bind(&path).unwrap();
    let timeout = Duration::from_millis(200);
    let client = Client::builder().call_timeout(timeout).connect(&path).await.unwrap();
    let begun = Instant::now();
    let error = client.state().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded(_)), "{error:#}");
    assert!(begun.elapsed() >= timeout && begun.elapsed() < PATIENCE);
    assert_eq!(error.to_string(), "list containers: no answer within 0.2 s");

    let begun = Instant::now();
    client.with_call_timeout(timeout * 2).server_version().await.unwrap_err();
    assert!(begun.elapsed() >= timeout * 2);
}
