//! Events of all APIs, as `gantry.v1` has them.

use std::time::Duration;

use gantry_api::v1::{
    Event, EventType, Filter, WatchRequest, WatchResponse,
    container_service_client::ContainerServiceClient, watch_request::Begin,
    watch_response::Message,
};
use gantry_client::{Client, INIT, Timestamp};
use tokio::time::sleep;
use tonic::{Status, Streaming};

use super::Row;
use crate::{
    containerd::{failed, is_away},
    failure::Failure,
};

/// How soon a server says that it has no further event; what Watch takes at least.
const HEARTBEAT: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };

/// Between attempts to reach a server that is away.
const PAUSE: Duration = Duration::from_millis(200);

/// What to follow.
#[derive(Debug)]
pub(super) struct Wanted {
    /// None: all.
    pub(super) namespaces: Vec<String>,
    pub(super) container: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) stored_only: bool,
}

/// Hands on every event, across restarts of the server.
pub(super) async fn follow(
    client: &Client,
    wanted: &Wanted,
    mut print: impl FnMut(&Row<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut begin = wanted.since.map(Begin::AfterTime);
    while let Some(ended) = follow_stream(client, wanted, &mut begin, &mut print).await? {
        if !is_away(&ended) || wanted.stored_only {
            return Err(failed("follow the events", &ended));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Hands on the events of one stream, and notes where the next one is to begin. Why the stream has ended; none if all that
/// is wanted has come.
async fn follow_stream(
    client: &Client,
    wanted: &Wanted,
    begin: &mut Option<Begin>,
    print: &mut impl FnMut(&Row<'_>) -> Result<(), Failure>,
) -> Result<Option<Status>, Failure> {
    let request = WatchRequest {
        begin: begin.clone(),
        filter: Some(Filter {
            namespaces: wanted.namespaces.clone(),
            container_ids: wanted.container.iter().cloned().collect(),
            ..Filter::default()
        }),
        types: Vec::new(),
        heartbeat_interval: Some(HEARTBEAT),
    };
    let mut stream = match ContainerServiceClient::new(client.channel()).watch(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Some(status)),
    };
    // The first message is a heartbeat, which tells where the stream begins.
    let mut first = true;
    loop {
        let response = match next(&mut stream).await {
            Ok(response) => response,
            Err(status) => return Ok(Some(status)),
        };
        *begin = Some(Begin::AfterCursor(response.cursor));
        match response.message {
            Some(Message::Event(event)) => print(&row(&event))?,
            Some(Message::Gap(_)) => {
                eprintln!("gantry: events are missing: the server has them no more");
            }
            Some(Message::Heartbeat(_)) if wanted.stored_only && !first => return Ok(None),
            _ => {}
        }
        first = false;
    }
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    let away = || Status::unavailable("the server has ended the stream");
    stream.message().await?.ok_or_else(away)
}

fn row(event: &Event) -> Row<'_> {
    let process = Some(event.process_id.as_str()).filter(|it| !it.is_empty());
    let is_first = process.is_none_or(|it| it == INIT);
    let (r#type, pid) = match event.r#type() {
        EventType::Created => ("create", process),
        EventType::Started if is_first => ("start-container", None),
        EventType::Started => ("start-process", process),
        EventType::Exited => ("exit", process),
        EventType::Paused => ("pause", None),
        EventType::Resumed => ("resume", None),
        EventType::OutOfMemory => ("oom", None),
        EventType::Checkpointed => ("checkpoint", None),
        EventType::Deleted => ("delete", process),
        EventType::Unspecified => ("unknown", process),
    };
    let is_exit = event.r#type() == EventType::Exited;
    Row {
        time: event.time.unwrap_or_default().to_string(),
        namespace: Some(event.namespace.as_str()).filter(|it| !it.is_empty()),
        id: &event.container_id,
        r#type,
        pid,
        status: event.exit.as_ref().filter(|_| is_exit).and_then(|exit| exit.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_api::v1::Exit;

    #[test]
    fn an_event_is_called_as_in_types_api() {
        let mut event = Event {
            namespace: "moby".into(),
            container_id: "web".into(),
            process_id: "init".into(),
            exit: Some(Exit { status: Some(3), exited_at: None }),
            ..Event::default()
        };
        event.set_type(EventType::Exited);
        let json = serde_json::to_value(row(&event)).unwrap();
        assert_eq!((&json["type"], &json["status"]), (&"exit".into(), &3.into()));
        assert_eq!((&json["namespace"], &json["pid"]), (&"moby".into(), &"init".into()));
        event.set_type(EventType::Started);
        let json = serde_json::to_value(row(&event)).unwrap();
        assert_eq!((&json["type"], json.get("pid")), (&"start-container".into(), None));
        event.process_id = "shell".into();
        assert_eq!(row(&event).r#type, "start-process");
    }
}
