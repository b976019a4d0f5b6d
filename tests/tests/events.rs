//! The event stream: stored events, live ones, and subscribers of all kinds.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::symlink,
    path::PathBuf,
    time::Duration,
};

use Runtime::{Crun, Runc};
use gantry_api::{
    Timestamp, event_type,
    types::{Event, EventsRequest},
};
use gantry_tests::{
    Container, Runtime, Server,
    events::{BEGINNING, listing, stored, time},
    eventually, improves, patiently, processes,
    service::{Api, connect},
    status::assert_error,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};

#[tokio::test]
async fn stored_events_are_those_strictly_after() {
    let Some(server) = Server::own(Crun).await else { return };
    for number in 0..5 {
        run_to_end(&server, &format!("c{number}")).await;
    }
    let mut api = server.service.api();
    let all = stored(&mut api, BEGINNING).await;
    assert_eq!(all, server.service.events.all(), "stored ones are as the live ones were");
    assert_eq!(all.len(), 10, "{}", listing(&all));
    for (index, event) in all.iter().enumerate() {
        let later = stored(&mut api, event.timestamp.unwrap()).await;
        assert_eq!(later, all[index + 1..], "after number {index}");
    }
    server.finish().await;
}

#[tokio::test]
async fn events_of_one_container() {
    let Some(server) = Server::own(Crun).await else { return };
    let request = |stored_only| EventsRequest {
        timestamp: Some(BEGINNING),
        stored_only,
        id: "mine".to_owned(),
    };
    run_to_end(&server, "mine").await;
    let mut live = open(&server, request(false)).await;
    for id in ["minez", "other", "mine"] {
        run_to_end(&server, id).await;
    }
    let mut api = server.service.api();
    let stored = api.events(request(true)).await.unwrap().into_inner();
    let stored: Vec<_> = patiently("the end", stored.map(Result::unwrap).collect()).await;
    assert_eq!(stored.len(), 4, "{}", listing(&stored));
    assert!(stored.iter().all(|event| event.id == "mine"));
    for expected in stored {
        let event = patiently("a live event", live.message()).await.unwrap();
        assert_eq!(event, Some(expected));
    }
    server.finish().await;
}

#[tokio::test]
async fn without_a_timestamp_only_live_events_are_delivered() {
    if improves("the original sends no headers before the first event") {
        return;
    }
    let Some(server) = Server::own(Crun).await else { return };
    run_to_end(&server, "before").await;
    let mut stream = open(&server, EventsRequest::default()).await;
    run_to_end(&server, "after").await;
    let event = patiently("an event", stream.message()).await.unwrap().unwrap();
    assert_eq!((event.id.as_str(), event.r#type.as_str()), ("after", event_type::START_CONTAINER));
    server.finish().await;
}

/// A subscriber that leaves and resumes at the last event it has handled, again and again, while
/// events go on: nothing is missed, nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_stored_and_live_nothing_is_lost() {
    if improves("the original loses some") {
        return;
    }
    let Some(server) = Server::own(Crun).await else { return };
    let mut subscriber = connect(&server.service.socket);
    let reading = tokio::spawn(async move {
        let mut seen: Vec<Event> = Vec::new();
        while !seen.iter().any(|event| event.id == "last" && event.r#type == event_type::EXIT) {
            let from = seen.last().map_or(BEGINNING, |event| event.timestamp.unwrap());
            let request = EventsRequest { timestamp: Some(from), ..EventsRequest::default() };
            let stream = subscriber.events(request).await.unwrap().into_inner();
            // A few events, then it goes and comes again.
            let some: Vec<_> = stream.take(3).map(Result::unwrap).collect().await;
            seen.extend(some);
        }
        seen
    });
    for round in 0..20 {
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        tokio::join!(run_to_end(&server, &one), run_to_end(&server, &two));
    }
    // The subscriber takes events by threes.
    for id in ["x", "last", "y", "z"] {
        run_to_end(&server, id).await;
    }
    let seen = patiently("the subscriber's end", reading).await.unwrap();
    assert_eq!(seen, server.service.events.all()[..seen.len()]);
    server.finish().await;
}

#[tokio::test]
async fn events_survive_the_server() {
    let Some(mut server) = Server::own(Crun).await else { return };
    run_to_end(&server, "before").await;
    let before = stored(&mut server.service.api(), BEGINNING).await;
    server.kill().await;
    server.start_again().await;
    assert_eq!(stored(&mut server.service.api(), BEGINNING).await, before);
    run_to_end(&server, "after").await;
    let after = stored(&mut server.service.api(), BEGINNING).await;
    assert_eq!(after[..2], before);
    assert_eq!(after.len(), 4);
    server.finish().await;
}

#[tokio::test]
async fn as_many_events_are_kept_as_asked() {
    if improves("the original keeps more until it is started again") {
        return;
    }
    let setup = Server::setup(Crun).arguments(&["--retain-count", "6"]);
    let Some(mut server) = setup.start().await else { return };
    for number in 0..6 {
        run_to_end(&server, &format!("c{number}")).await;
    }
    let all = server.service.events.all();
    let kept = stored(&mut server.service.api(), BEGINNING).await;
    assert_eq!(kept, all[6..], "the last six");
    server.kill().await;
    server.start_again().await;
    assert_eq!(stored(&mut server.service.api(), BEGINNING).await, all[6..], "and after a restart");
    server.finish().await;
}

/// A kill in the middle of a write leaves half a line; the rest is as it was.
#[tokio::test]
async fn a_torn_tail_is_cut() {
    if improves("the original does not start on a torn journal") {
        return;
    }
    let Some(mut server) = Server::own(Crun).await else { return };
    run_to_end(&server, "one").await;
    run_to_end(&server, "two").await;
    let all = server.service.events.all();
    server.kill().await;
    let journal = journal(&server);
    let length = fs::metadata(&journal).unwrap().len();
    fs::File::options().write(true).open(&journal).unwrap().set_len(length - 5).unwrap();
    server.start_again().await;
    let kept = stored(&mut server.service.api(), BEGINNING).await;
    assert_eq!(kept, all[..3]);
    // Neither is the cut one's time given again.
    run_to_end(&server, "three").await;
    let kept = stored(&mut server.service.api(), BEGINNING).await;
    assert!(time(&kept[3]) > time(&all[3]), "{}", listing(&kept));
    server.finish().await;
}

#[tokio::test]
async fn a_scribbled_journal_loses_no_more_than_the_scribbled() {
    if improves("the original does not start on it") {
        return;
    }
    let Some(mut server) = Server::own(Crun).await else { return };
    for number in 0..5 {
        run_to_end(&server, &format!("c{number}")).await;
    }
    let all = server.service.events.all();
    server.kill().await;
    let journal = journal(&server);
    let text = fs::read_to_string(&journal).unwrap();
    let third = text.match_indices('\n').nth(2).unwrap().0;
    let mut file = fs::File::options().write(true).open(&journal).unwrap();
    file.seek(SeekFrom::Start(u64::try_from(third).unwrap() + 3)).unwrap();
    file.write_all(&[0; 8]).unwrap();
    drop(file);
    server.start_again().await;
    let kept = stored(&mut server.service.api(), BEGINNING).await;
    let expected: Vec<_> = [&all[..3], &all[4..]].concat();
    assert_eq!(kept, expected, "all but the fourth");
    // The damage is logged.
    server.logs("journal was damaged").await;
    server.finish().await;
}

#[tokio::test]
async fn an_unreadable_journal_is_put_aside() {
    if improves("the original does not start on it") {
        return;
    }
    let Some(mut server) = Server::own(Crun).await else { return };
    let container = server.container("c").create().await.unwrap();
    server.kill().await;
    fs::write(journal(&server), [0; 4096]).unwrap();
    server.start_again().await;
    assert_eq!(container.state().await.unwrap().status, "running", "nobody is harmed by it");
    // The new journal has its start and its exit, or its exit alone.
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// 100 subscribers, 4,000 events (20,000 with `GANTRY_TEST_PAUSES=2500`), one subscriber that reads nothing
/// for 10 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_subscribers_lose_nothing() {
    const SUBSCRIBERS: usize = 100;
    const CONTAINERS: usize = 4;
    let pauses = std::env::var("GANTRY_TEST_PAUSES").map_or(500, |count| count.parse().unwrap());
    if improves("the original drops what does not fit into a queue of 1024") {
        return;
    }
    let Some(server) = Server::own(Crun).await else { return };
    let mut readers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let wait = if number == 0 { Duration::from_secs(10) } else { Duration::ZERO };
        readers.spawn(read_until_exits(connect(&server.service.socket), CONTAINERS, wait));
    }
    // The events are made by a runtime that pauses nothing, and is quick at it.
    let runtime = server.work().join("runtime");
    let become_program = |program: &str| {
        symlink(program, runtime.with_extension("new")).unwrap();
        fs::rename(runtime.with_extension("new"), &runtime).unwrap();
    };
    become_program("/usr/bin/crun");
    let mut containers = Vec::new();
    for number in 0..CONTAINERS {
        let container = server.container(&format!("c{number}")).runtime(Crun);
        let container = container.request(|r| r.runtime = runtime.to_str().unwrap().to_owned());
        containers.push(container.create().await.unwrap());
    }
    become_program("/bin/true");
    let makers: JoinSet<_> = containers.into_iter().map(|c| pause_often(c, pauses)).collect();
    let containers = makers.join_all().await;
    become_program("/usr/bin/crun");
    for container in containers {
        container.init.kill().await;
    }
    let expected = CONTAINERS * (2 + 2 * pauses);
    // They have hundreds of thousands of events to read: as long as the test runner lets them.
    let counts = readers.join_all().await;
    assert_eq!(counts, [expected; SUBSCRIBERS]);
    let peak = processes::memory(server.pid(), "VmHWM");
    assert!(peak < 96 << 10, "{peak} KiB at the peak");
    server.finish().await;
}

async fn pause_often(container: Container, pauses: usize) -> Container {
    for _ in 0..pauses {
        container.set_status("paused").await.unwrap();
        container.set_status("running").await.unwrap();
    }
    container
}

/// Counts events until so many containers have ended.
async fn read_until_exits(mut api: Api, exits: usize, wait: Duration) -> usize {
    let request = EventsRequest { timestamp: Some(BEGINNING), ..EventsRequest::default() };
    let mut stream = api.events(request).await.unwrap().into_inner();
    // Not to wait for anything: being slow is what this one is for.
    tokio::time::sleep(wait).await;
    let (mut count, mut ended, mut last) = (0, 0, (0, 0));
    while ended < exits {
        let event = stream.message().await.unwrap().expect("no end of the stream");
        assert!(time(&event) > last, "in order and once");
        last = time(&event);
        ended += usize::from(event.r#type == event_type::EXIT);
        count += 1;
    }
    count
}

#[tokio::test]
async fn every_subscriber_sees_the_same() {
    let Some(server) = Server::own(Runc).await else { return };
    let request = || EventsRequest { timestamp: Some(BEGINNING), ..EventsRequest::default() };
    let mut streams = Vec::new();
    for id in ["c0", "c1", "c2"] {
        run_to_end(&server, id).await;
        streams.push(open(&server, request()).await);
    }
    for mut stream in streams {
        for expected in server.service.events.all() {
            let event = patiently("an event", stream.message()).await.unwrap();
            assert_eq!(event, Some(expected));
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn a_beginning_before_everything_or_after_it_is_fine() {
    let Some(server) = Server::own(Runc).await else { return };
    run_to_end(&server, "c").await;
    let mut api = server.service.api();
    // Not year 1 itself, the zero time of Go: that means that none was given.
    let all = stored(&mut api, Timestamp { seconds: -62_135_596_799, nanos: 0 }).await;
    assert_eq!(all.len(), 2, "long before the epoch");
    assert_eq!(stored(&mut api, Timestamp { seconds: 0, nanos: 0 }).await, all);
    let late = Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 };
    assert_eq!(stored(&mut api, late).await, [], "year 9999");
    server.finish().await;
}

#[tokio::test]
async fn a_beginning_out_of_range_is_named() {
    if improves("the original takes any") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    for (seconds, nanos) in [(i64::MAX, 0), (253_402_300_800, 0), (i64::MIN, 0), (1, -1)] {
        let timestamp = Some(Timestamp { seconds, nanos });
        let request = EventsRequest { timestamp, ..EventsRequest::default() };
        let result = server.service.api().events(request).await;
        assert_error(result.map(drop), Code::InvalidArgument, &["timestamp"]);
    }
    server.finish().await;
}

/// Begins a subscription on a connection of its own.
async fn open(server: &Server, request: EventsRequest) -> Streaming<Event> {
    let mut api = connect(&server.service.socket);
    patiently("a subscription", api.events(request)).await.unwrap().into_inner()
}

async fn run_to_end(server: &Server, id: &str) {
    let container = server.container(id).without_pipes().args(&["true"]).create().await.unwrap();
    assert_eq!(container.init.exit().await, 0);
    // From then on the journal alone knows of the exit, also if the server is killed.
    let removed = server.state_dir().join("removed");
    let is_empty = || removed.read_dir().map_or(true, |mut entries| entries.next().is_none());
    eventually("its state is removed", is_empty).await;
}

fn journal(server: &Server) -> PathBuf {
    server.state_dir().join("events.journal")
}

/// Daemons of 2017 take any other event that names a process for one of an exec, and look for that exec.
#[tokio::test]
async fn only_starts_and_exits_of_processes_name_one() {
    let Some(server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.exec("e").without_pipes().sh("true").start().await.unwrap().exit().await;
    container.pause().await;
    container.resume().await;
    container.init.kill().await;
    let live = server.service.events.all();
    let seen: Vec<_> =
        live.iter().map(|event| (event.r#type.as_str(), event.pid.as_str())).collect();
    use event_type::{EXIT, PAUSE, RESUME, START_CONTAINER, START_PROCESS};
    let wanted = [
        (START_CONTAINER, ""),
        (START_PROCESS, "e"),
        (EXIT, "e"),
        (PAUSE, ""),
        (RESUME, ""),
        (EXIT, "init"),
    ];
    assert_eq!(seen, wanted, "{}", listing(&live));
    assert_eq!(stored(&mut server.service.api(), BEGINNING).await, live);
    server.finish().await;
}
