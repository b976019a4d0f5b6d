//! What errors say: each its own words, and the cause's once.

use std::{error::Error, fs, time::Duration};

use gantry_client::{Client, EventFollower, Stdio, oci_spec::runtime::Spec};

use crate::fake::Fake;

/// All words of a chain, from the error to the last cause.
fn words(error: &dyn Error) -> Vec<String> {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    words
}

/// No error of ours shows what its source shows as well.
fn assert_shown_once(error: &gantry_client::Error) {
    let words = words(error);
    assert!(words.len() > 1, "no source: {error}");
    assert!(!words[0].contains(&words[1]), "{words:?}");
    let all = format!("{error:#}");
    for cause in &words {
        assert_eq!(all.matches(cause.as_str()).count(), 1, "{all}");
    }
}

#[tokio::test]
async fn an_absent_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.sock");
    let error = Client::connect(&path, Duration::ZERO).await.unwrap_err();
    assert_shown_once(&error);
    let expected = format!("connect to {}: no connection", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(format!("{error:#}").ends_with(": No such file or directory (os error 2)"));
}

#[tokio::test]
async fn a_lost_connection() {
    let mut fake = Fake::start().await;
    let client = Client::builder().patience(Duration::ZERO);
    let client = client.connect(fake.dir.path().join("sock")).await.unwrap();
    fake.stop();
    assert_shown_once(&client.state().await.unwrap_err());
    assert_shown_once(&client.state().await.unwrap_err());
    let mut events = client.events(gantry_client::EventFilter::default());
    assert_shown_once(&events.next().await.unwrap_err());
}

#[tokio::test]
async fn files() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.dir.path().join("no/bundle")).spec(Spec::default());
    assert_shown_once(&create.start().await.unwrap_err());

    fs::create_dir(fake.bundle()).unwrap();
    fs::write(fake.bundle().join("config.json"), "{").unwrap();
    let create = client.create("web", &fake.bundle()).stdout(Stdio::Pipe);
    assert_shown_once(&create.start().await.unwrap_err());

    let file = fake.dir.path().join("event.ts");
    fs::write(&file, "yesterday").unwrap();
    assert_shown_once(&EventFollower::open(&client, &file).await.unwrap_err());
}

/// The server's words are the error's own; there is no cause beside them.
#[tokio::test]
async fn an_answer() {
    let fake = Fake::start().await;
    let error = fake.client().await.container("web").stats().await.unwrap_err();
    assert_eq!(words(&error), ["read the usage of container web: container not found: web"]);
}
