//! Bytes on a stream. Who receives says how many may be sent, and says so first.

use std::time::Duration;

use gantry_api::containerd::{
    from_any, to_any,
    types::transfer::{Data, WindowUpdate},
};
use tokio::time::timeout;
use tonic::Status;

use super::ClientStream;
use crate::services::containerd::status::invalid;

/// Bytes that a sender may be ahead, and how many more it is told when it is less.
const WINDOW: i32 = 64 << 10;

/// Bytes in one message.
const PIECE: usize = 32 << 10;

/// What may come behind the end of an archive, and how long that may take.
const MOST_REST: usize = 1 << 20;
const REST_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes that a client sends.
pub(in super::super) struct ByteReader {
    stream: ClientStream,
    /// How many more the client may send.
    window: i64,
}

impl ByteReader {
    pub(in super::super) fn new(stream: ClientStream) -> Self {
        Self { stream, window: 0 }
    }

    /// The next piece; `None` at the end. The future may be dropped.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            if self.window < i64::from(WINDOW) {
                let update = to_any(&WindowUpdate { update: WINDOW });
                // A client that has sent everything takes no more.
                if self.stream.send(update).await.is_ok() {
                    self.window += i64::from(WINDOW);
                }
            }
            let Some(message) = self.stream.next().await? else { return Ok(None) };
            let data = from_any::<Data>(&message);
            let data = data.map_err(|error| invalid("stream", format!("stream: {error}")))?;
            // As in containerd, what else comes is passed over.
            let Some(Data { data }) = data else { continue };
            self.window -= i64::try_from(data.len()).unwrap_or(i64::MAX);
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl ByteReader {
    /// Reads what comes behind what was wanted, for a moment, so that the client can close the stream first.
    pub(in super::super) async fn finish(mut self) {
        let rest = async {
            let mut length = 0;
            while length < MOST_REST
                && let Ok(Some(data)) = self.next().await
            {
                length += data.len();
            }
        };
        // It counts for nothing if there is more.
        let _ = timeout(REST_DEADLINE, rest).await;
    }
}

/// Bytes that a client receives.
pub(in super::super) struct ByteWriter {
    stream: ClientStream,
    /// How many more the client takes.
    window: i64,
}

impl ByteWriter {
    pub(in super::super) fn new(stream: ClientStream) -> Self {
        Self { stream, window: 0 }
    }

    /// Sends bytes, when the client takes them. Some may have been sent if the future is dropped.
    pub(in super::super) async fn write(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            while self.window <= 0 {
                self.widen().await?;
            }
            let most = usize::try_from(self.window).unwrap_or(usize::MAX).min(PIECE);
            let (piece, rest) = data.split_at(most.min(data.len()));
            self.stream.send(to_any(&Data { data: piece.to_vec() })).await?;
            self.window -= i64::try_from(piece.len()).unwrap_or(i64::MAX);
            data = rest;
        }
        Ok(())
    }

    /// Waits for the client to take more.
    async fn widen(&mut self) -> Result<(), Status> {
        let Some(message) = self.stream.next().await? else {
            let message = format!(
                "stream {:?}: the client takes no more, and there is more to send: cancelled",
                self.stream.id()
            );
            return Err(Status::cancelled(message));
        };
        let update = from_any::<WindowUpdate>(&message);
        let update = update.map_err(|error| invalid("stream", format!("stream: {error}")))?;
        let update = update.map_or(0, |update| i64::from(update.update));
        self.window = self.window.saturating_add(update.max(0));
        Ok(())
    }

    /// The end of the bytes.
    pub(in super::super) async fn finish(self) {
        self.stream.close().await;
    }
}
