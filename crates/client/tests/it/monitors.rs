//! A server that has `gantry.v1`, and one that has not.

use std::{pin::Pin, sync::Arc};

use gantry_api::v1::{
    AttachRequest, AttachResponse, Event, EventType, Exit, Gap, GetRequest, GetResponse, Heartbeat,
    ListRequest, ListResponse, WaitRequest, WaitResponse, WatchRequest, WatchResponse,
    container_service_server::ContainerService, watch_request::Begin, watch_response::Message,
};
use gantry_client::{ErrorKind, EventKind, Timestamp, Watched, oci_spec::runtime::Spec};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::fake::{Fake, Inner};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// It knows the ends of processes that the journal does not have, and has events 1, 2, ...: each after the cursor before.
pub(crate) struct Monitors(pub(crate) Arc<Inner>);

#[tonic::async_trait]
impl ContainerService for Monitors {
    type WatchStream = Answers<WatchResponse>;
    type ListStream = Answers<ListResponse>;
    type AttachStream = Answers<AttachResponse>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        assert_eq!(request.filter.unwrap().namespaces, [""]);
        let after = match request.begin.unwrap() {
            Begin::AfterCursor(cursor) => cursor.parse().unwrap(),
            Begin::AfterTime(_) => 0,
        };
        self.0.note(format!("watch after {after}"));
        let response = |cursor: u32, message| {
            Ok(WatchResponse { cursor: cursor.to_string(), message: Some(message) })
        };
        let time = Some(Timestamp { seconds: 50, nanos: 0 });
        let exit = Event {
            time,
            r#type: EventType::Exited.into(),
            container_id: "web".into(),
            process_id: "init".into(),
            exit: Some(Exit { status: Some(3), exited_at: time }),
            ..Event::default()
        };
        let messages = [
            response(after, Message::Heartbeat(Heartbeat {})),
            response(after + 1, Message::Gap(Gap { until: time })),
            response(after + 2, Message::Event(exit)),
        ];
        let stream = tokio_stream::iter(messages).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let WaitRequest { container_id, process_id, .. } = request.into_inner();
        let key = format!("{container_id}/{process_id}");
        self.0.note(format!("wait {key}"));
        let status = self.0.remembered.lock().unwrap().get(&key).copied();
        let status = status.ok_or_else(|| Status::not_found("container not found"))?;
        let exit = Some(Exit { status: Some(status), exited_at: None });
        Ok(Response::new(WaitResponse { exit, out_of_memory: false }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::internal("not asked for"))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Err(Status::internal("not asked for"))
    }

    async fn attach(
        &self,
        _: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::internal("not asked for"))
    }
}

#[tokio::test]
async fn an_exit_is_known_for_as_long_as_the_server_remembers() {
    let fake = Fake::start_with_monitors().await;
    fake.inner.remembered.lock().unwrap().insert("web/init".into(), 4);
    let client = fake.client().await;
    let container = client.container("web");
    assert_eq!(container.wait().await.unwrap().status, 4);
    // Stored events come first: what is asked for may have an id that is in use again.
    fake.inner.publish("exit", "web/init", 5);
    assert_eq!(container.wait().await.unwrap().status, 5);
    assert!(client.container("other").wait().await.unwrap_err().is_not_found());
    assert_eq!(fake.log(), ["wait web/init", "wait other/init"]);
}

/// It ended while the server was away, and is not replayed any more.
#[tokio::test]
async fn an_exit_that_is_not_stored_any_more_is_not_unknown() {
    let mut fake = Fake::start_with_monitors().await;
    let client = fake.client().await;
    let container = client.create("web", &fake.bundle()).spec(Spec::default()).start().await;
    fake.stop();
    fake.inner.containers.lock().unwrap().clear();
    fake.inner.journal.lock().unwrap().clear();
    fake.inner.remembered.lock().unwrap().insert("web/init".into(), 6);
    fake.serve();
    assert_eq!(container.unwrap().wait().await.unwrap().status, 6);
}

#[tokio::test]
async fn a_watch_goes_on_from_its_cursor() {
    let mut fake = Fake::start_with_monitors().await;
    let client = fake.client().await;
    let mut watch = client.watch(None).unwrap();
    let time = Timestamp { seconds: 50, nanos: 0 };
    assert_eq!(watch.next().await.unwrap(), Watched::Gap(time));
    let exited = |watched: Watched| match watched {
        Watched::Event(event) => {
            assert_eq!((event.container.as_str(), event.time), ("web", time));
            assert_eq!(event.kind, EventKind::Exited { process: "init".into(), status: 3 });
        }
        other => panic!("{other:?}"),
    };
    exited(watch.next().await.unwrap());
    assert_eq!(watch.cursor(), "50.000000000/2");
    fake.stop();
    fake.serve();
    assert!(matches!(watch.next().await.unwrap_err().kind(), ErrorKind::Unavailable(_)));
    assert_eq!(watch.next().await.unwrap(), Watched::Gap(time));
    // Another one, of another process perhaps.
    let mut other = client.watch(Some(&watch.cursor())).unwrap();
    assert_eq!(other.next().await.unwrap(), Watched::Gap(time));
    exited(other.next().await.unwrap());
    assert_eq!(fake.log(), ["watch after 0", "watch after 2", "watch after 3"]);
    let error = client.watch(Some("7")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
}

/// As the original containerd.
#[tokio::test]
async fn a_watch_of_a_server_without_cursors_goes_on_after_the_last_event() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    let mut watch = client.watch(Some("0.000000000/")).unwrap();
    let kind = |watched: Watched| match watched {
        Watched::Event(event) => event.kind,
        other => panic!("{other:?}"),
    };
    fake.inner.publish("pause", "web", 0);
    assert_eq!(kind(watch.next().await.unwrap()), EventKind::Paused);
    fake.stop();
    fake.inner.publish("resume", "web", 0);
    fake.serve();
    watch.next().await.unwrap_err();
    assert_eq!(kind(watch.next().await.unwrap()), EventKind::Resumed);
    fake.inner.publish("exit", "web/init", 3);
    let mut again = client.watch(Some(&watch.cursor())).unwrap();
    let exited = EventKind::Exited { process: "init".into(), status: 3 };
    assert_eq!(kind(again.next().await.unwrap()), exited);
}
