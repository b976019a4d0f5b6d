//! `gantry.v1`: what monitors see of containers of every API, and how somebody waits for an end.

use gantry_api::v1::{
    Event, EventType, Filter, GetRequest, Label, ListRequest, State, WaitRequest, WaitResponse,
    WatchRequest, WatchResponse, container_service_client::ContainerServiceClient,
    watch_request::Begin, watch_response::Message,
};
use gantry_tests::{Runtime, Server, patiently};
use rstest::rstest;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    Bed,
    tasks::{NewTask, Task, finish},
};

fn client(bed: &Bed) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(bed.server.service.channel())
}

/// The stream of a monitor.
struct Monitor(Streaming<WatchResponse>);

impl Monitor {
    /// It is following when this returns.
    async fn begin(bed: &Bed, request: WatchRequest) -> Self {
        let mut monitor = Self(client(bed).watch(request).await.unwrap().into_inner());
        let first = monitor.next().await;
        assert!(matches!(first.message, Some(Message::Heartbeat(_))), "{first:?}");
        monitor
    }

    async fn next(&mut self) -> WatchResponse {
        patiently("a message", self.0.message()).await.unwrap().expect("the stream has not ended")
    }

    /// The next events with their cursors, up to one of this type.
    async fn until(&mut self, last: EventType) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        loop {
            let response = self.next().await;
            match response.message {
                Some(Message::Event(event)) => {
                    let is_last = event.r#type() == last;
                    events.push((response.cursor, event));
                    if is_last {
                        return events;
                    }
                }
                Some(Message::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn after(cursor: &str) -> WatchRequest {
    WatchRequest { begin: Some(Begin::AfterCursor(cursor.to_owned())), ..Default::default() }
}

fn types(events: &[(String, Event)]) -> Vec<(&str, &str, EventType)> {
    let facts = |(_, event): &'_ (String, Event)| event.r#type();
    let names = events.iter().map(|(_, event)| (&*event.namespace, &*event.process_id));
    names.zip(events.iter().map(facts)).map(|((space, id), kind)| (space, id, kind)).collect()
}

async fn wait(bed: &Bed, namespace: &str, id: &str, process: &str) -> Result<WaitResponse, Status> {
    let request = WaitRequest {
        namespace: namespace.to_owned(),
        container_id: id.to_owned(),
        process_id: process.to_owned(),
    };
    let mut client = client(bed);
    patiently("Wait", client.wait(request)).await.map(tonic::Response::into_inner)
}

fn status(answer: Result<WaitResponse, Status>) -> u32 {
    answer.unwrap().exit.expect("an exit").status.expect("it is known")
}

/// The life of a container of `types.API`, up to its exit event.
async fn live(bed: &Bed, id: &str, status: u8) {
    let container = bed.server.container(id).sh(&format!("exit {status}")).create().await.unwrap();
    assert_eq!(container.init.exit().await, u32::from(status));
}

async fn end(task: Task<'_>, status: u32) {
    assert_eq!(task.wait("").await.unwrap().exit_status, status);
    task.delete().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn every_event_of_every_api_comes_once_in_order_from_any_cursor(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(mut bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let mut monitor = Monitor::begin(&bed, WatchRequest::default()).await;
    live(&bed, "a", 3).await;
    let task = NewTask::new(&bed, "ns", "a").sh("exit 4").create().await.unwrap();
    task.start("").await.unwrap();
    end(task, 4).await;
    let events = monitor.until(EventType::Deleted).await;
    let wanted = [
        ("", "init", EventType::Started),
        ("", "init", EventType::Exited),
        ("ns", "init", EventType::Created),
        ("ns", "init", EventType::Started),
        ("ns", "init", EventType::Exited),
        ("ns", "", EventType::Deleted),
    ];
    assert_eq!(types(&events), wanted);
    let statuses = events.iter().filter_map(|(_, event)| event.exit?.status);
    assert_eq!(statuses.collect::<Vec<_>>(), [3, 4, 4]);
    assert!(events.is_sorted_by_key(|(_, event)| {
        let time = event.time.unwrap();
        (time.seconds, time.nanos)
    }));

    // From each cursor, and after a restart of the server: the same events, with the same cursors.
    for restart in [false, true] {
        if restart {
            drop(monitor);
            bed.server.kill().await;
            bed.server.start_again().await;
            monitor = Monitor::begin(&bed, WatchRequest::default()).await;
        }
        for place in 0..events.len() - 1 {
            let mut again = Monitor::begin(&bed, after(&events[place].0)).await;
            assert_eq!(again.until(EventType::Deleted).await, events[place + 1..]);
        }
    }
    live(&bed, "b", 5).await;
    let later = monitor.until(EventType::Exited).await;
    assert_eq!(types(&later), wanted[..2]);
    drop(monitor);
    finish(bed).await;
}

#[tokio::test]
async fn a_monitor_gets_what_it_asks_for() {
    let Some(bed) = Bed::start().await else { return };
    let filter = |namespaces: &[&str], ids: &[&str]| {
        let strings = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect();
        Some(Filter {
            namespaces: strings(namespaces),
            container_ids: strings(ids),
            labels: Vec::new(),
        })
    };
    let request = |filter| WatchRequest { filter, ..Default::default() };
    let mut of_types = Monitor::begin(&bed, request(filter(&[""], &[]))).await;
    let mut of_b = Monitor::begin(&bed, request(filter(&[], &["b"]))).await;
    let exits = vec![EventType::Exited.into()];
    let mut of_exits =
        Monitor::begin(&bed, WatchRequest { types: exits, ..Default::default() }).await;
    let task = NewTask::new(&bed, "ns", "a").sh("exit 1").create().await.unwrap();
    task.start("").await.unwrap();
    end(task, 1).await;
    live(&bed, "a", 2).await;
    live(&bed, "b", 3).await;
    let ids = |events: Vec<(String, Event)>| -> Vec<(String, String)> {
        let name = |(_, event): (String, Event)| (event.namespace, event.container_id);
        events.into_iter().map(name).collect()
    };
    let pair = |namespace: &str, id: &str| (namespace.to_owned(), id.to_owned());
    assert_eq!(ids(of_types.until(EventType::Exited).await), [pair("", "a"), pair("", "a")]);
    assert_eq!(ids(of_b.until(EventType::Exited).await), [pair("", "b"), pair("", "b")]);
    for exit in [pair("ns", "a"), pair("", "a"), pair("", "b")] {
        assert_eq!(ids(of_exits.until(EventType::Exited).await), [exit]);
    }
    drop((of_types, of_b, of_exits));
    finish(bed).await;
}

/// A monitor of containerd's API that comes later gets the exit that nobody has received; one of `gantry.v1` takes none.
#[tokio::test]
async fn a_monitor_takes_no_exit_from_another() {
    let Some(bed) = Bed::start().await else { return };
    let mut monitor = Monitor::begin(&bed, WatchRequest::default()).await;
    let task = NewTask::new(&bed, "ns", "a").sh("exit 6").create().await.unwrap();
    task.start("").await.unwrap();
    let cursor = monitor.until(EventType::Exited).await.pop().unwrap().0;
    // It has asked for more, and so has a second one.
    let mut second = Monitor::begin(&bed, after(&cursor)).await;
    live(&bed, "b", 0).await;
    monitor.until(EventType::Exited).await;
    second.until(EventType::Exited).await;
    let request = gantry_api::containerd::events::SubscribeRequest { filters: Vec::new() };
    let mut subscribed = bed.events().subscribe(request).await.unwrap().into_inner();
    let first = patiently("an event", subscribed.message()).await.unwrap().unwrap();
    assert_eq!((&*first.namespace, &*first.topic), ("ns", "/tasks/exit"));
    end(task, 6).await;
    drop((monitor, second, subscribed));
    finish(bed).await;
}

#[tokio::test]
async fn an_end_is_known_before_and_after() {
    let Some(mut bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "a").sh("read x; exit 7").create().await.unwrap();
    let kept = {
        let early = wait(&bed, "ns", "a", "");
        let container = bed.server.container("a").sh("read x; exit 8").create().await.unwrap();
        let running = wait(&bed, "", "a", "init");
        let ends = async {
            task.start("").await.unwrap();
            task.kill("", 9).await.unwrap();
            assert_eq!(container.init.kill().await, 137);
        };
        let (early, running, ()) = tokio::join!(early, running, ends);
        assert_eq!((status(early), status(running)), (137, 137));
        task.kept()
    };
    // The one is still there, the other is gone.
    for (namespace, restart) in [("ns", false), ("", false), ("ns", true), ("", true)] {
        if restart && namespace == "ns" {
            bed.server.kill().await;
            bed.server.start_again().await;
        }
        assert_eq!(status(wait(&bed, namespace, "a", "").await), 137);
    }
    kept.again(&bed).delete().await.unwrap();
    assert_eq!(status(wait(&bed, "ns", "a", "").await), 137);
    let none = wait(&bed, "ns", "a", "e").await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::NotFound, "container not found: a"));
    assert_eq!(wait(&bed, "other", "a", "").await.unwrap_err().code(), Code::NotFound);
    finish(bed).await;
}

/// An exec has an end of its own, which is not that of an exec of an earlier container.
#[tokio::test]
async fn the_end_of_an_exec_is_known() {
    let Some(bed) = Bed::start().await else { return };
    let container = bed.server.container("a").create().await.unwrap();
    let exec = container.exec("e").sh("exit 9").start().await.unwrap();
    assert_eq!(exec.exit().await, 9);
    assert_eq!(status(wait(&bed, "", "a", "e").await), 9);
    assert_eq!(container.init.kill().await, 137);
    assert_eq!(status(wait(&bed, "", "a", "e").await), 9);
    let container = bed.server.container("a").create().await.unwrap();
    let none = wait(&bed, "", "a", "e").await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::NotFound, "process not found: e"));
    assert_eq!(container.init.kill().await, 137);
    finish(bed).await;
}

#[tokio::test]
async fn containers_of_all_namespaces_are_listed() {
    let Some(bed) = Bed::start().await else { return };
    let container = bed.server.container("a").create().await.unwrap();
    let task = NewTask::new(&bed, "ns", "b").create().await.unwrap();
    let list = async |filter| {
        let mut stream = client(&bed).list(ListRequest { filter }).await.unwrap().into_inner();
        let mut names = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            let name = |of: gantry_api::v1::Container| {
                let pids = of.processes.iter().map(|process| process.pid).collect::<Vec<_>>();
                (of.namespace.clone(), of.id.clone(), of.state(), pids)
            };
            names.extend(part.containers.into_iter().map(name));
        }
        names.sort_by(|a, b| a.1.cmp(&b.1));
        names
    };
    let a = (String::new(), "a".to_owned(), State::Running, vec![container.init.system_pid]);
    let b = ("ns".to_owned(), "b".to_owned(), State::Created, vec![task.pid]);
    assert_eq!(list(None).await, [a.clone(), b.clone()]);
    let of_ns = Filter { namespaces: vec!["ns".to_owned()], ..Filter::default() };
    assert_eq!(list(Some(of_ns)).await, [b]);
    let get = async |namespace: &str, id: &str| {
        let request = GetRequest { namespace: namespace.to_owned(), container_id: id.to_owned() };
        client(&bed).get(request).await.map(|answer| answer.into_inner().container.unwrap())
    };
    assert_eq!(get("", "a").await.unwrap().processes[0].id, "init");
    assert_eq!(get("ns", "b").await.unwrap().state(), State::Created);
    assert_eq!(get("ns", "a").await.unwrap_err().code(), Code::NotFound);
    task.kill("", 9).await.unwrap();
    end(task, 137).await;
    assert_eq!(container.init.kill().await, 137);
    finish(bed).await;
}

/// Events of a container have the labels with which it was created, also once it is gone, and after a restart.
#[tokio::test]
async fn events_are_found_by_labels() {
    let Some(mut bed) = Bed::start().await else { return };
    let wanted = |key: &str, value: Option<&str>| {
        let label = Label { key: key.to_owned(), value: value.map(str::to_owned) };
        Some(Filter { labels: vec![label], ..Filter::default() })
    };
    let all = Monitor::begin(&bed, WatchRequest::default()).await;
    let filter = wanted("app", Some("web"));
    let mut live_monitor =
        Monitor::begin(&bed, WatchRequest { filter, ..Default::default() }).await;
    let label = async |id: &str, labels: &[&str]| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let new = bed.server.container(id).request(|request| request.labels = labels);
        let container = new.sh("exit 3").create().await.unwrap();
        assert_eq!(container.init.exit().await, 3);
    };
    label("other", &["app=db"]).await;
    label("long", &["x".repeat(4096).as_str(), "y"]).await;
    label("web", &["tier", "app=web"]).await;
    let mut task = NewTask::new(&bed, "ns", "task").sh("exit 4");
    task.container.labels = [("app".to_owned(), "web".to_owned())].into();
    let task = task.create().await.unwrap();
    let list = async |filter| {
        let mut stream = client(&bed).list(ListRequest { filter }).await.unwrap().into_inner();
        let mut ids = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            ids.extend(part.containers.into_iter().map(|container| container.id));
        }
        ids
    };
    assert_eq!(list(wanted("app", None)).await, ["task"]);
    assert!(list(wanted("app", Some("db"))).await.is_empty());
    task.start("").await.unwrap();
    end(task, 4).await;

    let ids = |events: &[(String, Event)]| {
        let mut ids: Vec<_> = events.iter().map(|(_, event)| event.container_id.clone()).collect();
        ids.dedup();
        ids
    };
    // Nobody can say that those of `long` do not match.
    let events = live_monitor.until(EventType::Deleted).await;
    assert_eq!(ids(&events), ["long", "web", "task"]);
    drop((live_monitor, all));
    bed.server.kill().await;
    bed.server.start_again().await;
    let begin = || Some(Begin::AfterTime(prost_types::Timestamp::default()));
    let replay = async |filter| {
        let request = WatchRequest { begin: begin(), filter, ..Default::default() };
        ids(&Monitor::begin(&bed, request).await.until(EventType::Deleted).await)
    };
    assert_eq!(replay(wanted("app", Some("web"))).await, ["long", "web", "task"]);
    assert_eq!(replay(wanted("app", None)).await, ["other", "long", "web", "task"]);
    finish(bed).await;
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let Some(bed) = Bed::start().await else { return };
    let refused = async |request: WatchRequest| {
        let error = client(&bed).watch(request).await.map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        error.message().to_owned()
    };
    assert_eq!(refused(after("7")).await, "after_cursor: is not one that this server has given");
    let types = vec![77];
    let message = refused(WatchRequest { types, ..Default::default() }).await;
    assert_eq!(message, "types[0]: 77 is no type of event");
    let labels = vec![Label { key: "a=b".to_owned(), value: None }];
    let filter = Some(Filter { labels, ..Filter::default() });
    let message = refused(WatchRequest { filter, ..Default::default() }).await;
    let problem = "filter.labels[0].key: must not be empty, and must not contain '='";
    assert_eq!(message, problem);
    let heartbeat_interval = Some(prost_types::Duration { seconds: 0, nanos: 1 });
    let message = refused(WatchRequest { heartbeat_interval, ..Default::default() }).await;
    assert_eq!(message, "heartbeat_interval: must be a second to an hour");
    let error = wait(&bed, "ns", "/", "").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("container_id: "), "{}", error.message());
    finish(bed).await;
}

/// The heartbeat tells the caller where to begin again.
#[tokio::test]
async fn there_is_a_sign_of_life_when_nothing_happens() {
    let Some(bed) = Bed::start().await else { return };
    let heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let pauses = vec![EventType::Paused.into()];
    let request = WatchRequest { heartbeat_interval, types: pauses, ..Default::default() };
    let mut all = Monitor::begin(&bed, WatchRequest::default()).await;
    let mut monitor = Monitor::begin(&bed, request).await;
    live(&bed, "a", 0).await;
    let exit = all.until(EventType::Exited).await.pop().unwrap().0;
    // What came before a heartbeat, and was not asked for, does not come again.
    let cursor = loop {
        let beat = monitor.next().await;
        assert!(matches!(beat.message, Some(Message::Heartbeat(_))), "{beat:?}");
        if beat.cursor == exit {
            break beat.cursor;
        }
    };
    let mut again = Monitor::begin(&bed, after(&cursor)).await;
    live(&bed, "b", 0).await;
    let events = again.until(EventType::Exited).await;
    assert!(events.iter().all(|(_, event)| event.container_id == "b"), "{events:?}");
    drop((all, monitor, again));
    finish(bed).await;
}
