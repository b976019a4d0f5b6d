//! How far a transfer is, told to its caller.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use gantry_api::containerd::{
    to_any,
    types::{Descriptor as DescriptorMessage, transfer::Progress as Message},
};
use gantry_images::Descriptor;
use tokio::time::timeout;

use crate::services::containerd::streaming::ClientStream;

/// How long a caller may not read: then it is told nothing more, and the transfer goes on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The caller's stream for it, if there is one.
#[derive(Default)]
pub(super) struct Progress {
    stream: Option<ClientStream>,
    /// The caller does not read, or has closed the stream.
    is_over: AtomicBool,
}

impl Progress {
    /// On this stream, which is closed when this is dropped.
    pub(super) fn on(stream: ClientStream) -> Self {
        Self { stream: Some(stream), is_over: AtomicBool::new(false) }
    }

    /// Whether anybody listens.
    pub(super) fn is_told(&self) -> bool {
        self.stream.is_some() && !self.is_over.load(Ordering::Relaxed)
    }

    /// What has happened to the whole of the transfer.
    pub(super) async fn event(&self, event: &str) {
        self.tell(Message { event: event.to_owned(), ..Message::default() }).await;
    }

    /// What has happened to something of this name.
    pub(super) async fn of(&self, event: &str, name: &str, descriptor: &Descriptor) {
        let (event, name) = (event.to_owned(), name.to_owned());
        self.tell(Message { event, name, desc: Some(message(descriptor)), ..Message::default() })
            .await;
    }

    /// Any other. The future may be dropped.
    pub(super) async fn tell(&self, progress: Message) {
        let Some(stream) = &self.stream else { return };
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        if !matches!(timeout(PATIENCE, stream.send(to_any(&progress))).await, Ok(Ok(()))) {
            tracing::info!(stream = stream.id(), "nobody reads a transfer's progress");
            self.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// A descriptor as callers see it.
pub(super) fn message(descriptor: &Descriptor) -> DescriptorMessage {
    DescriptorMessage {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: descriptor.annotations.clone(),
    }
}
