//! How a process that the server does not have any more has ended.
//!
//! It is among the stored events, most often. gantryd remembers more of them than it replays, and says so in `gantry.v1`, which
//! the original does not have.

use std::time::Duration;

use gantry_api::{
    INIT,
    v1::{WaitRequest, WaitResponse, container_service_client::ContainerServiceClient},
};
use tokio::time;
use tonic::Code;

use crate::{
    call::Operation,
    connection::{Api, Connection},
    error::{Error, ErrorKind, Result},
    event::{Event, EventKind},
    event_stream,
    exits::{Exit, Key},
    state::{find_container, has_process},
};

/// How long a server may take to look it up. It waits only for a process that has the same id by now, whose end is not
/// what is asked for.
const ANSWER: Duration = Duration::from_secs(5);

/// The exit of a process that is not there any more; `None` if the server does not remember it. A server that is away is
/// an error: it may remember.
pub(crate) async fn ended(connection: &Connection, key: &Key) -> Result<Option<Exit>> {
    if let Some(exit) = stored(connection, key).await? {
        return Ok(Some(exit));
    }
    match time::timeout(ANSWER, remembered(connection, key)).await {
        Ok(Ok(exit)) => Ok(Some(exit)),
        Ok(Err(error)) if error.is_not_found() || is_unimplemented(&error) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) if is_there(connection, key).await? => Ok(None),
        Err(_) => {
            let message = format!("no answer within {} s", ANSWER.as_secs());
            Err(Error::new(operation(key), ErrorKind::Unavailable(message)))
        }
    }
}

/// Whether there is a process with that id by now.
async fn is_there(connection: &Connection, key: &Key) -> Result<bool> {
    let container = find_container(connection, &key.container).await?;
    Ok(container.is_some_and(|found| key.process == INIT || has_process(&found, &key.process)))
}

fn operation(key: &Key) -> String {
    format!("ask how {}/{} ended", key.container, key.process)
}

/// Whether the server does not have `gantry.v1`.
fn is_unimplemented(error: &Error) -> bool {
    error.answer().is_some_and(|answer| answer.code == Code::Unimplemented as i32)
}

/// From a server that has `gantry.v1`.
async fn remembered(connection: &Connection, key: &Key) -> Result<Exit> {
    let operation = Operation::repeatable(operation(key));
    let request = WaitRequest {
        namespace: String::new(),
        container_id: key.container.clone(),
        process_id: key.process.clone(),
    };
    let channel = connection.channel();
    let wait = |_: Api, request| {
        let mut service = ContainerServiceClient::new(channel.clone());
        async move { service.wait(request).await }
    };
    let WaitResponse { exit, .. } = connection.call(operation, request, wait).await?;
    let (status, time) = exit.map(|exit| (exit.status, exit.exited_at)).unwrap_or_default();
    let unknown = Exit::unknown();
    Ok(Exit::new(status.unwrap_or(unknown.status), time.unwrap_or(unknown.time)))
}

/// The last exit of the process that the server has stored.
async fn stored(connection: &Connection, key: &Key) -> Result<Option<Exit>> {
    let events = event_stream::stored(connection, Some(&key.container)).await?;
    let exit = |event: &Event| match &event.kind {
        EventKind::Exited { process, status } if *process == key.process => {
            Some(Exit { status: *status, time: event.time })
        }
        _ => None,
    };
    Ok(events.iter().rev().find_map(exit))
}
