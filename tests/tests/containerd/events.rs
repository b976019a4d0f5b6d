//! Events that are published, and those of the services' own records.

use std::collections::BTreeMap;

use gantry_api::containerd::{
    containers::{Container, DeleteContainerRequest, UpdateContainerRequest},
    event_types::{
        ContainerCreate, ContainerDelete, ContainerUpdate, NamespaceCreate, NamespaceDelete,
        TaskStart, container_create::Runtime,
    },
    events::{ForwardRequest, PublishRequest, SubscribeRequest},
    from_any,
    namespaces::{CreateNamespaceRequest, DeleteNamespaceRequest, Namespace},
    to_any,
    types::Envelope,
};
use gantry_tests::patiently;
use prost_types::{Any, FieldMask, Timestamp};
use rustix::process::Signal;
use tonic::{Code, Status, Streaming};

use crate::{Bed, any, assert_refused, container, of};

/// When something has happened elsewhere.
const ELSEWHERE: Timestamp = Timestamp { seconds: 1_500_000_000, nanos: 7 };

/// Returns once the server has answered with headers, so that all later events are delivered.
pub(crate) async fn subscribe(bed: &Bed, filters: &[&str]) -> Streaming<Envelope> {
    try_subscribe(bed, filters).await.unwrap()
}

async fn try_subscribe(bed: &Bed, filters: &[&str]) -> Result<Streaming<Envelope>, Status> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    Ok(bed.events().subscribe(SubscribeRequest { filters }).await?.into_inner())
}

pub(crate) async fn publish(
    bed: &Bed,
    namespace: &str,
    topic: &str,
    event: Any,
) -> Result<(), Status> {
    let request = PublishRequest { topic: topic.to_owned(), event: Some(event) };
    bed.events().publish(of(namespace, request)).await.map(drop)
}

async fn forward(bed: &Bed, envelope: Option<Envelope>) -> Result<(), Status> {
    bed.events().forward(ForwardRequest { envelope }).await.map(drop)
}

fn envelope(namespace: &str, topic: &str, event: Any) -> Envelope {
    Envelope {
        timestamp: Some(ELSEWHERE),
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        event: Some(event),
    }
}

pub(crate) async fn next(stream: &mut Streaming<Envelope>) -> Envelope {
    patiently("an event", stream.message()).await.unwrap().expect("no end")
}

/// Namespace, topic and the type of the message.
fn summary(envelope: &Envelope) -> (&str, &str, &str) {
    let type_url = envelope.event.as_ref().map_or("", |event| &event.type_url);
    (&envelope.namespace, &envelope.topic, type_url)
}

#[tokio::test]
async fn published_events_reach_all_subscribers_in_one_order() {
    let Some(bed) = Bed::start().await else { return };
    publish(&bed, "ns", "/before", any("x", b"")).await.unwrap();
    let mut subscribers = [subscribe(&bed, &[]).await, subscribe(&bed, &[""]).await];
    publish(&bed, "ns", "/a/b", any("example.com/unknown", b"\0\xff")).await.unwrap();
    let forwarded = envelope("other.ns", "/c", any("", b"x"));
    forward(&bed, Some(forwarded.clone())).await.unwrap();
    let nothing = PublishRequest { topic: "/d".to_owned(), event: None };
    bed.events().publish(of("ns", nothing)).await.unwrap();
    for subscriber in &mut subscribers {
        let published = next(subscriber).await;
        assert_eq!(summary(&published), ("ns", "/a/b", "example.com/unknown"));
        assert_eq!(published.event.unwrap().value, b"\0\xff");
        assert!(published.timestamp.unwrap().seconds > ELSEWHERE.seconds);
        // As it was given, its time too.
        assert_eq!(next(subscriber).await, forwarded);
        let without = next(subscriber).await;
        assert_eq!((without.topic.as_str(), &without.event), ("/d", &None));
    }
    drop(subscribers);
    bed.server.finish().await;
}

#[tokio::test]
async fn filters_select_events() {
    let Some(bed) = Bed::start().await else { return };
    let start = |id: &str| to_any(&TaskStart { container_id: id.to_owned(), pid: 1 });
    let mut subscribers = Vec::new();
    for (filters, expected) in [
        (&["namespace==moby, topic~=|^/tasks/|"][..], &["1", "2"][..]),
        (&["event.container_id==2"], &["2", "4"]),
        (&["topic==\"/other\"", "event.container_id==1"], &["1", "3"]),
        (&["namespace==nobody", "namespace!=moby"], &["4"]),
    ] {
        subscribers.push((subscribe(&bed, filters).await, filters, expected));
    }
    for (namespace, topic, event) in [
        ("moby", "/tasks/start", start("1")),
        ("moby", "/tasks/start", start("2")),
        ("moby", "/other", any("containerd.events.TaskStart", b"\xff")),
        ("k8s.io", "/tasks/start", start("2")),
    ] {
        publish(&bed, namespace, topic, event).await.unwrap();
    }
    // Matched by all filters: shows that nothing more comes.
    let last = to_any(&TaskStart { container_id: "2".to_owned(), pid: 9 });
    publish(&bed, "moby", "/tasks/last", last.clone()).await.unwrap();
    publish(&bed, "nobody", "/other", last.clone()).await.unwrap();
    let number = |seen: &Envelope| match (seen.namespace.as_str(), seen.topic.as_str()) {
        ("k8s.io", _) => "4".to_owned(),
        (_, "/other") => "3".to_owned(),
        _ => from_any::<TaskStart>(seen.event.as_ref().unwrap()).unwrap().unwrap().container_id,
    };
    for (mut subscriber, filters, expected) in subscribers {
        let mut seen = Vec::new();
        loop {
            let envelope = next(&mut subscriber).await;
            if envelope.event.as_ref() == Some(&last) {
                break;
            }
            seen.push(number(&envelope));
        }
        assert_eq!(seen, expected, "{filters:?}");
    }
    bed.server.finish().await;
}

#[tokio::test]
async fn changes_of_records_are_published() {
    let Some(bed) = Bed::start().await else { return };
    let mut stream = subscribe(&bed, &[]).await;
    let namespace = Some(Namespace { name: "made".to_owned(), labels: BTreeMap::new() });
    bed.namespaces().create(CreateNamespaceRequest { namespace }).await.unwrap();
    let given = Container { image: "busybox".to_owned(), ..container("c") };
    bed.create("ns", given).await.unwrap();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let update = UpdateContainerRequest {
        container: Some(Container { labels: labels.clone(), ..container("c") }),
        update_mask: Some(FieldMask { paths: vec!["labels".to_owned()] }),
    };
    bed.containers().update(of("ns", update)).await.unwrap();
    let delete = DeleteContainerRequest { id: "c".to_owned() };
    bed.containers().delete(of("ns", delete)).await.unwrap();
    let delete = DeleteNamespaceRequest { name: "made".to_owned() };
    bed.namespaces().delete(delete).await.unwrap();

    let (id, image) = ("c".to_owned(), "busybox".to_owned());
    let runtime = Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None });
    let created = ContainerCreate { id: id.clone(), image: image.clone(), runtime };
    let snapshot_key = String::new();
    let updated = ContainerUpdate { id: id.clone(), image, labels, snapshot_key };
    let made = NamespaceCreate { name: "made".to_owned(), labels: BTreeMap::new() };
    for (namespace, topic, event) in [
        ("made", "/namespaces/create", to_any(&made)),
        ("ns", "/containers/create", to_any(&created)),
        ("ns", "/containers/update", to_any(&updated)),
        ("ns", "/containers/delete", to_any(&ContainerDelete { id })),
        ("made", "/namespaces/delete", to_any(&NamespaceDelete { name: "made".to_owned() })),
    ] {
        let seen = next(&mut stream).await;
        assert_eq!((seen.namespace.as_str(), seen.topic.as_str()), (namespace, topic));
        assert_eq!(seen.event, Some(event), "{topic}");
    }
    drop(stream);
    bed.server.finish().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let Some(bed) = Bed::start().await else { return };
    let mut stream = subscribe(&bed, &[]).await;
    let event = || any("x", b"");
    let request = PublishRequest { topic: "/a".to_owned(), event: None };
    let required = "namespace is required: failed precondition";
    assert_refused(bed.events().publish(request).await, Code::FailedPrecondition, required);
    for (topic, problem) in [
        ("", "envelope topic \"\": must not be empty"),
        ("a", "envelope topic \"a\": must start with '/'"),
        ("/", "envelope topic \"/\": must have at least one component"),
    ] {
        let message = format!("{problem}: invalid argument");
        let published = publish(&bed, "ns", topic, event()).await;
        assert_refused(published, Code::InvalidArgument, &message);
        let forwarded = forward(&bed, Some(envelope("ns", topic, event()))).await;
        assert_refused(forwarded, Code::InvalidArgument, &message);
    }
    let given = envelope("ns", "/a", event());
    let zero = Some(Timestamp { seconds: -62_135_596_800, nanos: 0 });
    for wrong in [
        None,
        Some(Envelope { namespace: String::new(), ..given.clone() }),
        Some(Envelope { namespace: "a/b".to_owned(), ..given.clone() }),
        Some(Envelope { timestamp: None, ..given.clone() }),
        Some(Envelope { timestamp: zero, ..given }),
    ] {
        let error = forward(&bed, wrong.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong:?}");
    }
    let long = publish(&bed, "ns", "/a", any("x", &vec![0; 1 << 20])).await;
    let words =
        "an event of 1048579 bytes is too long: at most 1048576 are allowed: invalid argument";
    assert_refused(long, Code::InvalidArgument, words);
    let error = try_subscribe(&bed, &["topic=="]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    let words = "subscription error: failed parsing subscription filters: filters: parse error: ";
    assert!(error.message().starts_with(words), "{error:?}");
    // No other event was delivered.
    publish(&bed, "ns", "/last", event()).await.unwrap();
    assert_eq!(next(&mut stream).await.topic, "/last");
    drop(stream);
    bed.server.finish().await;
}

/// The slow subscriber gets an error, and others are not delayed.
#[tokio::test]
async fn one_that_does_not_read_loses_events() {
    let Some(bed) = Bed::start().await else { return };
    let mut slow = subscribe(&bed, &[]).await;
    let mut quick = subscribe(&bed, &["topic==\"/flood\""]).await;
    let event = any("x", &vec![b'x'; 1_000_000]);
    for _ in 0..30 {
        publish(&bed, "ns", "/flood", event.clone()).await.unwrap();
        assert_eq!(next(&mut quick).await.topic, "/flood");
    }
    let mut read = 0;
    let error = loop {
        match patiently("an event", slow.message()).await {
            Ok(Some(_)) => read += 1,
            Ok(None) => panic!("the stream ends after {read} events"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::DataLoss, "{error:?}");
    assert!(error.message().starts_with("too far behind"), "{error:?}");
    assert!(read < 30, "{read} events");
    drop((slow, quick));
    bed.server.finish().await;
}

/// The connection is lost with the server, in whatever way that ends: a stream that ends is not subscribed to
/// again by dockerd. Events that were delivered, or published for those who followed, do not come again.
#[tokio::test]
async fn a_server_that_ends_says_nothing() {
    let Some(mut bed) = Bed::start().await else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let mut stream = subscribe(&bed, &[]).await;
        publish(&bed, "ns", "/seen", any("x", b"")).await.unwrap();
        assert_eq!(next(&mut stream).await.topic, "/seen");
        bed.server.end(signal).await;
        let error = patiently("the end", stream.message()).await.unwrap_err();
        // What the client itself makes of a connection that breaks.
        assert_eq!(error.code(), Code::Unknown, "{error:?}");
        assert!(std::error::Error::source(&error).is_some(), "{error:?}");
        bed.server.start_again().await;
        let mut stream = subscribe(&bed, &[]).await;
        publish(&bed, "ns", "/after", any("x", b"")).await.unwrap();
        assert_eq!(next(&mut stream).await.topic, "/after");
    }
    let journal = std::fs::read_to_string(bed.server.state_dir().join("events.journal")).unwrap();
    assert_eq!(journal.matches(r#""topic":"/seen""#).count(), 2, "{journal}");
    bed.server.finish().await;
}
