//! Streams that clients open for a later call to use.

mod bytes;
mod registry;

use std::time::Duration;

pub(super) use bytes::{ByteReader, ByteWriter};
use gantry_api::containerd::{
    from_any,
    streaming::{StreamInit, streaming_server},
    to_any,
};
use prost_types::Any;
use registry::Ends;
pub(super) use registry::{ClientStream, Streams};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Request, Response, Status, Streaming};

use super::{Surface, pages::Answers, request, status::invalid};
use crate::rpc::follower;

/// How long a client may take to say which stream it has opened.
const INIT_DEADLINE: Duration = Duration::from_secs(10);

/// Messages that wait for the client to read them.
const ROOM: usize = 16;

/// The longest id in bytes.
const LONGEST_ID: usize = 1024;

/// The service.
pub(super) struct Service(pub(super) Surface);

#[tonic::async_trait]
impl streaming_server::Streaming for Service {
    type StreamStream = Answers<Any>;

    async fn stream(
        &self,
        request: Request<Streaming<Any>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let namespace = request::namespace(&request)?;
        let counted = follower(&request)?;
        let (outgoing, messages) = mpsc::channel(ROOM);
        let (streams, mut incoming) = (self.0.0.streams.clone(), request.into_inner());
        tokio::spawn(async move {
            let id = match timeout(INIT_DEADLINE, id(&mut incoming)).await {
                Ok(Ok(id)) => id,
                Ok(Err(status)) => return registry::refuse(&outgoing, status).await,
                Err(_) => {
                    let message = "a stream begins with a StreamInit, which did not come in time";
                    return registry::refuse(&outgoing, Status::deadline_exceeded(message)).await;
                }
            };
            let ends = Ends { incoming, outgoing, counted };
            streams.keep(namespace, id, ends).await;
        });
        Ok(Response::new(Box::pin(registry::Messages(messages))))
    }
}

/// The id that a stream's first message has.
async fn id(incoming: &mut Streaming<Any>) -> Result<String, Status> {
    let field = "id";
    let first = incoming.message().await?;
    let first = first.ok_or_else(|| invalid(field, "a stream begins with a StreamInit"))?;
    let init = from_any::<StreamInit>(&first).map_err(|error| invalid(field, error.to_string()))?;
    let StreamInit { id } = init.ok_or_else(|| {
        invalid(field, format!("a stream begins with a StreamInit, not with {:?}", first.type_url))
    })?;
    match id.len() {
        1..=LONGEST_ID => Ok(id),
        0 => Err(invalid(field, "id: must not be empty")),
        length => Err(invalid(
            field,
            format!("id: is {length} bytes long, at most {LONGEST_ID} are allowed"),
        )),
    }
}

/// What tells the client that its stream can be used.
fn opened() -> Any {
    to_any(&())
}
