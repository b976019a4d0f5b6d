//! More exits than `retain_count` while a daemon is away: it gets every one.

use std::{fs, os::unix::fs::symlink, path::Path};

use Runtime::Crun;
use gantry_api::{
    EVENTS_MISSING_METADATA, Timestamp, event_type,
    types::{Event, EventsRequest, StateRequest},
};
use gantry_tests::{
    Runtime, Server,
    events::{BEGINNING, listing, stored},
    eventually, improves, patiently, processes,
    service::connect,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

const RETAINED: usize = 10;

/// A server that keeps few events, and that nobody subscribes to any more.
async fn left_alone() -> Option<Server> {
    if improves("the original keeps a number of events") {
        return None;
    }
    let setup = Server::setup(Crun).arguments(&["--retain-count", &RETAINED.to_string()]);
    let server = setup.start().await?;
    server.service.events.leave();
    Some(server)
}

/// Runs so many containers to their ends; more with `GANTRY_TEST_EXITS`, for all rounds of a test.
async fn run_to_end(server: &Server, name: &str) -> Vec<String> {
    let count = std::env::var("GANTRY_TEST_EXITS").map_or(60, |count| count.parse().unwrap()) / 2;
    let mut creates = JoinSet::new();
    let mut ids = Vec::new();
    for number in 0..count {
        let id = format!("{name}{number}");
        let container = server.container(&id).without_pipes().args(&["true"]);
        ids.push(id);
        creates.spawn(async move { container.create().await.map(drop) });
    }
    patiently("the starts", creates.join_all()).await.into_iter().for_each(Result::unwrap);
    loop {
        let state = server.service.api().state(StateRequest::default()).await.unwrap();
        if state.into_inner().containers.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let removed = server.state_dir().join("removed");
    let is_empty = || removed.read_dir().map_or(true, |mut entries| entries.next().is_none());
    eventually("their state is removed", is_empty).await;
    ids
}

/// Makes events that are no exits until the journal is cut, with a runtime that pauses nothing.
async fn rotate_journal(server: &Server) {
    let journal = server.state_dir().join("events.journal");
    let inode = || {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&journal).unwrap().ino()
    };
    let runtime = server.work().join("runtime");
    let become_program = |program: &str| {
        let new = runtime.with_extension("new");
        symlink(Path::new(program), &new).unwrap();
        fs::rename(&new, &runtime).unwrap();
    };
    become_program("/usr/bin/crun");
    let container = server.container("pauses").without_pipes().runtime(Crun);
    let container = container.request(|r| r.runtime = runtime.to_str().unwrap().to_owned());
    let container = container.create().await.unwrap();
    become_program("/bin/true");
    let before = inode();
    for _ in 0..1500 {
        container.set_status("paused").await.unwrap();
        container.set_status("running").await.unwrap();
        if inode() != before {
            break;
        }
    }
    assert_ne!(inode(), before, "the journal was not cut");
    become_program("/usr/bin/crun");
    container.init.signal(9).await.unwrap();
}

fn exits(events: &[Event]) -> Vec<&str> {
    let mut exits: Vec<_> = events
        .iter()
        .filter(|event| event.r#type == event_type::EXIT)
        .map(|event| event.id.as_str())
        .collect();
    exits.sort_unstable();
    exits
}

/// A daemon: what is stored, and then what comes until this container's end.
async fn follow_until(server: &Server, from: Timestamp, last: &str) -> Vec<Event> {
    let request = EventsRequest { timestamp: Some(from), ..EventsRequest::default() };
    let mut stream = connect(&server.service.socket).events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    loop {
        let event = patiently("an event", stream.message()).await.unwrap().expect("no end");
        let is_last = event.id == last && event.r#type == event_type::EXIT;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exits_wait_for_a_daemon_that_was_away() {
    let Some(mut server) = left_alone().await else { return };
    let before = processes::memory(server.pid(), "RssAnon");
    let mut ids = run_to_end(&server, "a").await;
    server.kill().await;
    server.start_again().await;
    ids.extend(run_to_end(&server, "b").await);
    rotate_journal(&server).await;
    ids.push("pauses".to_owned());
    server.kill().await;
    server.start_again().await;

    let events = follow_until(&server, BEGINNING, "pauses").await;
    ids.sort_unstable();
    let prefixed: Vec<_> = ids.iter().map(String::as_str).collect();
    assert_eq!(exits(&events), prefixed, "{}", listing(&events));
    let times: Vec<_> = events.iter().map(|e| e.timestamp.map(|t| (t.seconds, t.nanos))).collect();
    assert!(times.is_sorted_by(|a, b| a < b));
    let memory = processes::memory(server.pid(), "RssAnon");
    assert!(memory < before + (16 << 10), "{memory} KiB, {before} at the start");
    server.finish().await;
}

/// The same from the same timestamp, whatever became of the first subscriber.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_replay_can_be_repeated() {
    let Some(mut server) = left_alone().await else { return };
    let ids = run_to_end(&server, "a").await;
    let request = || EventsRequest { timestamp: Some(BEGINNING), ..EventsRequest::default() };
    let stream = connect(&server.service.socket).events(request()).await.unwrap().into_inner();
    let first: Vec<_> = stream.take(5).map(Result::unwrap).collect().await;
    let from = first.last().unwrap().timestamp.unwrap();
    for killed in [false, true] {
        if killed {
            server.kill().await;
            server.start_again().await;
        }
        let stream = connect(&server.service.socket).events(request()).await.unwrap().into_inner();
        let again: Vec<_> = stream.take(5).map(Result::unwrap).collect().await;
        assert_eq!(again, first);
    }
    let rest = stored(&mut server.service.api(), from).await;
    let all = [first, rest].concat();
    let mut ids: Vec<_> = ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    assert_eq!(exits(&all), ids, "{}", listing(&all));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_events_are_reported() {
    let Some(server) = left_alone().await else { return };
    run_to_end(&server, "a").await;
    let ask = async |from| {
        let request =
            EventsRequest { timestamp: Some(from), stored_only: true, ..EventsRequest::default() };
        let response = server.service.api().events(request).await.unwrap();
        let missing = response.metadata().get(EVENTS_MISSING_METADATA);
        let missing = missing.map(|missing| missing.to_str().unwrap().to_owned());
        let events: Vec<_> = response.into_inner().map(Result::unwrap).collect().await;
        (missing, events)
    };
    // The exits are there, but not all starts.
    let (missing, events) = ask(BEGINNING).await;
    let missing = missing.expect("starts are missing");
    server.logs(&missing).await;
    let newest = events.len() - RETAINED;
    let time = |event: &Event| event.timestamp.unwrap().to_string();
    assert!(missing < time(&events[newest]), "{missing}\n{}", listing(&events));
    // Once the exits were received, another subscriber misses them and gets the newest events.
    let (missing, newer) = ask(BEGINNING).await;
    assert!(missing.is_some());
    assert_eq!(newer, events[newest..]);
    let (missing, _) = ask(events[newest].timestamp.unwrap()).await;
    assert_eq!(missing, None);
    server.finish().await;
}
