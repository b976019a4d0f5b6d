//! What a request carries.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};

/// Data in parts of any size, or why there are no more.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// Something that can be read again and again, as an upload may have to begin anew.
pub trait Source: Send + Sync {
    /// Begins at the beginning.
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Chunks, String>> + Send + '_>>;
}

/// What requests carry, however often they have to be sent.
#[derive(Clone, Default)]
pub(crate) enum Content<'a> {
    #[default]
    None,
    Whole(Bytes),
    /// For nobody else than the host that the question is for.
    Secret(Bytes),
    /// Of so many bytes.
    Source(u64, &'a dyn Source),
}

/// How far a request is sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    bytes: AtomicU64,
    failure: OnceLock<String>,
}

impl Sent {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the source could not be read.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

/// The body of one request.
pub(crate) struct Payload {
    data: Data,
    left: u64,
    sent: Arc<Sent>,
}

enum Data {
    None,
    Whole(Bytes),
    Chunks(Chunks),
}

impl Content<'_> {
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// # Errors
    /// If the source cannot be read.
    pub(crate) async fn payload(&self) -> Result<(Payload, Arc<Sent>), String> {
        let (data, left) = match self {
            Self::None => (Data::None, 0),
            Self::Whole(bytes) | Self::Secret(bytes) => {
                (Data::Whole(bytes.clone()), bytes.len() as u64)
            }
            Self::Source(size, source) => (Data::Chunks(source.open().await?), *size),
        };
        let sent = Arc::new(Sent::default());
        Ok((Payload { data, left, sent: Arc::clone(&sent) }, sent))
    }
}

impl Payload {
    fn fail(&mut self, problem: String) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        self.data = Data::None;
        // The first one counts.
        let _ = self.sent.failure.set(problem.clone());
        Poll::Ready(Some(Err(problem)))
    }

    fn give(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        let count = bytes.len() as u64;
        if count > self.left {
            return self.fail("is longer than it should be".to_owned());
        }
        self.left -= count;
        self.sent.bytes.fetch_add(count, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        match &mut self.data {
            Data::None => Poll::Ready(None),
            Data::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.data = Data::None;
                self.give(bytes)
            }
            Data::Chunks(chunks) => match chunks.as_mut().poll_next(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => self.give(bytes),
                Poll::Ready(Some(Err(problem))) => self.fail(problem),
                Poll::Ready(None) if self.left > 0 => self.fail("ends too early".to_owned()),
                Poll::Ready(None) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.data, Data::None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
