//! Streams between this command and the server, which a transfer names.

use gantry_api::containerd::{
    streaming::{StreamInit, streaming_client::StreamingClient},
    to_any,
};
use gantry_client::Client;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    containerd::{about, failed},
    failure::Failure,
    ids,
};

/// A stream of messages in both directions. Dropping it ends this side's.
pub(crate) struct Stream {
    id: String,
    outgoing: Option<mpsc::Sender<Any>>,
    incoming: Streaming<Any>,
}

impl Stream {
    pub(crate) async fn open(client: &Client, namespace: &str) -> Result<Stream, Failure> {
        let what = "open a stream";
        let id = format!("gantry-{}", ids::random()?);
        let (outgoing, messages) = mpsc::channel(1);
        let first = to_any(&StreamInit { id: id.clone() });
        // There is room, as nothing was sent.
        let _ = outgoing.try_send(first);
        let mut streaming = StreamingClient::new(client.channel());
        let opened = streaming.stream(about(namespace, ReceiverStream::new(messages))?).await;
        let mut incoming = opened.map_err(|status| failed(what, &status))?.into_inner();
        // The server knows the stream when it has answered.
        let answer = incoming.message().await.map_err(|status| failed(what, &status))?;
        answer.ok_or_else(|| Failure::new(format!("{what}: the server has closed it")))?;
        Ok(Stream { id, outgoing: Some(outgoing), incoming })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Sends a message; whether the server still takes any.
    pub(crate) async fn send(&self, message: Any) -> bool {
        match &self.outgoing {
            Some(outgoing) => outgoing.send(message).await.is_ok(),
            None => false,
        }
    }

    /// The server's next message; none when it has ended its side, for whatever reason.
    pub(crate) async fn next(&mut self) -> Option<Any> {
        self.incoming.message().await.ok().flatten()
    }

    /// Ends this side.
    pub(crate) fn close(&mut self) {
        self.outgoing = None;
    }
}
