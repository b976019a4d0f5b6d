//! What the server measures: over gRPC, for a collector of telemetry, and in `gantry top`.

mod collector;
mod export;
mod top;

use std::time::Duration;

use gantry_api::{
    containerd::{
        NAMESPACE_METADATA,
        events::{PublishRequest, SubscribeRequest, events_client::EventsClient},
    },
    types::{StateRequest, StatsRequest},
    v1::{
        Api, ContainerUsage, Filter, GetMeasuresRequest, GetMeasuresResponse, ListUsageRequest,
        RuntimeOutcome, State, SubscriberKind, SubscriberMeasures,
        server_service_client::ServerServiceClient,
    },
};
use gantry_tests::{Runtime, Server, patiently};
use prost_types::Any;
use tonic::{Code, transport::Channel};

fn client(server: &Server) -> ServerServiceClient<Channel> {
    ServerServiceClient::new(server.service.channel())
}

async fn measures(server: &Server) -> GetMeasuresResponse {
    client(server).get_measures(GetMeasuresRequest {}).await.unwrap().into_inner()
}

/// Calls of a method that have ended with a code.
fn calls(measures: &GetMeasuresResponse, method: &str, code: Code) -> u64 {
    let is_it = |it: &&gantry_api::v1::CallMeasures| it.method == method && it.code == code as u32;
    let found = measures.calls.iter().find(is_it);
    let durations = found.and_then(|calls| calls.durations.as_ref());
    durations.map_or(0, |durations| durations.buckets.iter().sum())
}

/// Containers of `types.API` in a state.
fn containers(measures: &GetMeasuresResponse, state: State) -> u64 {
    let is_it =
        |it: &&gantry_api::v1::ContainerMeasures| it.api() == Api::Types && it.state() == state;
    measures.containers.iter().find(is_it).unwrap().count
}

async fn usage(server: &Server, filter: Option<Filter>) -> Vec<ContainerUsage> {
    let mut parts =
        client(server).list_usage(ListUsageRequest { filter }).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        all.extend(part.containers);
    }
    all
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let before = measures(&server).await;
    let mut api = server.service.api();
    for _ in 0..5 {
        api.state(StateRequest { id: String::new() }).await.unwrap();
    }
    for _ in 0..3 {
        let id = "missing".to_owned();
        assert_eq!(api.stats(StatsRequest { id }).await.unwrap_err().code(), Code::NotFound);
    }
    // The end of an answer is counted a moment before its client has it, or after that.
    let counted = async {
        loop {
            let now = measures(&server).await;
            let of = |method, code| calls(&now, method, code) - calls(&before, method, code);
            let all = [
                of("types.API/State", Code::Ok),
                of("types.API/Stats", Code::NotFound),
                of("types.API/Stats", Code::Ok),
            ];
            if all[0] >= 5 && all[1] >= 3 {
                return (all, now);
            }
        }
    };
    let (all, now) = patiently("the calls are counted", counted).await;
    assert_eq!(all, [5, 3, 0]);
    assert!(calls(&now, "gantry.v1.ServerService/GetMeasures", Code::Ok) >= 1);
    let process = now.process.unwrap();
    assert!(process.memory_bytes > 1 << 20 && process.file_descriptors > 5, "{process:?}");
    assert!(process.threads > 5 && process.file_descriptor_limit >= process.file_descriptors);
    assert!(now.connections.unwrap().open >= 1 && now.connections.unwrap().calls >= 1);
    assert_eq!(
        now.duration_bounds.len() + 1,
        now.calls[0].durations.as_ref().unwrap().buckets.len()
    );
    assert_eq!(now.export, None, "there is no collector");
    server.finish().await;
}

#[tokio::test]
async fn containers_are_counted_by_state_and_runtimes_by_command() {
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").sh("while :; do :; done").create().await.unwrap();
    let running = measures(&server).await;
    let states = [State::Running, State::Paused];
    assert_eq!(states.map(|state| containers(&running, state)), [1, 0]);
    let runs = running.runtime_calls.iter().find(|it| it.command == "run").unwrap();
    assert_eq!(runs.outcome(), RuntimeOutcome::Done);
    let took: Duration = runs.durations.as_ref().unwrap().sum.unwrap().try_into().unwrap();
    assert!((Duration::from_millis(1)..Duration::from_secs(60)).contains(&took), "{took:?}");
    assert_eq!(runs.durations.as_ref().unwrap().buckets.iter().sum::<u64>(), 1);
    let launches = running.launches.unwrap();
    assert!(launches.limit >= 4 && (launches.active, launches.waiting) == (0, 0), "{launches:?}");
    let events = running.events.unwrap();
    assert!(events.journal_records >= 1 && events.journal_bytes > 50, "{events:?}");

    container.pause().await;
    let paused = measures(&server).await;
    assert_eq!(states.map(|state| containers(&paused, state)), [0, 1]);
    server.kill().await;
    server.start_again().await;
    let again = measures(&server).await;
    assert_eq!(containers(&again, State::Paused), 1);
    let reattach = again.reattach.unwrap();
    assert_eq!(reattach.found, 1);
    assert!(Duration::try_from(reattach.duration.unwrap()).unwrap() > Duration::ZERO);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn what_containers_use_is_listed() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let busy = server.container("busy").sh("while :; do :; done").create().await.unwrap();
    let idle = server.container("idle").sh("exec sleep 1000000").create().await.unwrap();
    let working = async {
        loop {
            let used = usage(&server, None).await;
            let ids: Vec<_> = used.iter().map(|it| it.container_id.as_str()).collect();
            assert_eq!(ids, [busy.id.as_str(), idle.id.as_str()]);
            let cpu: Duration = used[0].cpu_time.unwrap().try_into().unwrap();
            if cpu > Duration::from_millis(200) {
                return used;
            }
        }
    };
    let used = patiently("a container has used a processor", working).await;
    assert!(used[0].memory_bytes > 0 && used[0].pids == 1, "{used:?}");
    assert!(used[0].memory_limit_bytes.is_none(), "{used:?}");
    let filter = |namespaces: &[&str], ids: &[&str]| {
        let strings = |of: &[&str]| of.iter().map(|it| (*it).to_owned()).collect();
        let (namespaces, container_ids) = (strings(namespaces), strings(ids));
        Some(Filter { namespaces, container_ids, ..Filter::default() })
    };
    assert_eq!(usage(&server, filter(&["moby"], &[])).await, []);
    let one = usage(&server, filter(&[""], &[&idle.id])).await;
    assert_eq!(one.len(), 1);
    let bad = client(&server).list_usage(ListUsageRequest { filter: filter(&["/"], &[]) }).await;
    assert_eq!(bad.unwrap_err().code(), Code::InvalidArgument);
    busy.init.kill().await;
    idle.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn the_slowest_subscriber_is_known() {
    const PIECE: usize = 512 << 10;
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let mut events = EventsClient::new(gantry_tests::service::channel(&server.service.socket));
    let unread = events.subscribe(SubscribeRequest::default()).await.unwrap();
    let behind = async || -> SubscriberMeasures {
        let subscribers = measures(&server).await.events.unwrap().subscribers;
        let is_it = |it: &SubscriberMeasures| it.kind() == SubscriberKind::Containerd;
        subscribers.into_iter().find(is_it).unwrap()
    };
    // The other one is the server's own, which restarts containers.
    let both = async { while behind().await.count != 2 {} };
    patiently("the subscriber is counted", both).await;
    let mut publisher = EventsClient::new(server.service.channel());
    // More than a connection takes before it is read, and less than is dropped.
    for _ in 0..24 {
        let event = Some(Any { type_url: "test".to_owned(), value: vec![0; PIECE] });
        let mut request = tonic::Request::new(PublishRequest { topic: "/test".to_owned(), event });
        request.metadata_mut().insert(NAMESPACE_METADATA, "moby".parse().unwrap());
        publisher.publish(request).await.unwrap();
    }
    let slowest = behind().await;
    assert!(slowest.slowest_events >= 2, "{slowest:?}");
    assert!(slowest.slowest_bytes >= slowest.slowest_events * PIECE as u64, "{slowest:?}");
    drop(unread);
    drop(events);
    let gone = async { while behind().await.count != 1 {} };
    patiently("the subscriber is gone", gone).await;
    server.finish().await;
}
