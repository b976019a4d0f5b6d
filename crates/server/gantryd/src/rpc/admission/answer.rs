//! The body of an answer, counted until its bytes are with the kernel.
//!
//! Answers that a client does not read wait here: the transport takes a chunk of each from its handler even
//! if it cannot send. So each chunk carries its charge until its last byte is written or dropped.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};

use super::account::Charge;

type Part = Option<Result<Frame<Bytes>, Status>>;

/// Charges an answer to its connection; one that does not fit becomes an error. Its first chunk is encoded
/// here, where no other connection waits.
pub(super) fn charged(
    response: http::Response<Body>,
    charge: Arc<Charge>,
    cx: &mut Context<'_>,
) -> http::Response<Body> {
    let (parts, mut body) = response.into_parts();
    if body.is_end_stream() {
        return http::Response::from_parts(parts, body);
    }
    let made = match Pin::new(&mut body).poll_frame(cx).map(|part| charge_part(part, &charge)) {
        Poll::Ready(Err(exhausted)) => return exhausted.into_http(),
        Poll::Ready(Ok(part)) => Poll::Ready(part),
        Poll::Pending => Poll::Pending,
    };
    http::Response::from_parts(parts, Body::new(Charged { body, made, charge }))
}

/// A part whose bytes carry their charge.
fn charge_part(part: Part, charge: &Arc<Charge>) -> Result<Part, Status> {
    let data = match part.map(|part| part.map(Frame::into_data)) {
        Some(Ok(Ok(data))) => data,
        Some(Ok(Err(other))) => return Ok(Some(Ok(other))),
        Some(Err(error)) => return Ok(Some(Err(error))),
        None => return Ok(None),
    };
    charge.raise_to(data.len())?;
    if charge.is_zero() {
        return Ok(Some(Ok(Frame::data(data))));
    }
    let held = Held { data, _until_written: Arc::clone(charge) };
    Ok(Some(Ok(Frame::data(Bytes::from_owner(held)))))
}

/// An answer whose parts are charged.
struct Charged {
    body: Body,
    /// The part that was made before the transport asked for it.
    made: Poll<Part>,
    charge: Arc<Charge>,
}

impl HttpBody for Charged {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Part> {
        if let Poll::Ready(part) = std::mem::replace(&mut self.made, Poll::Pending) {
            return Poll::Ready(part);
        }
        let part = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Each part has a charge of its own: those before it may have been written.
        let charge = self.charge.another();
        Poll::Ready(charge_part(part, &charge).unwrap_or_else(|exhausted| {
            let mut trailers = http::HeaderMap::new();
            Some(exhausted.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.made.is_pending() && self.body.is_end_stream()
    }
}

/// Bytes, and what goes with them.
struct Held<T> {
    data: Bytes,
    _until_written: T,
}

impl<T> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// A stream of messages of which no part is made before the last one was written.
pub(super) struct Paced {
    body: Body,
    pace: Arc<Pace>,
}

impl Paced {
    pub(super) fn new(body: Body) -> Self {
        Self { body, pace: Arc::default() }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Part> {
        ready!(self.pace.poll_written(cx));
        let part = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let hold = |frame: Frame<Bytes>| {
            frame.map_data(|data| {
                let held = Held { data, _until_written: self.pace.begin() };
                Bytes::from_owner(held)
            })
        };
        Poll::Ready(part.map(|part| part.map(hold)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Whether a part is under way.
#[derive(Default)]
struct Pace {
    under_way: AtomicBool,
    reader: AtomicWaker,
}

/// A part that is under way until this is dropped.
struct UnderWay(Arc<Pace>);

impl Pace {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.store(true, Ordering::SeqCst);
        UnderWay(Arc::clone(self))
    }

    fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before the check, so that no change falls in between.
        self.reader.register(cx.waker());
        if self.under_way.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.store(false, Ordering::SeqCst);
        self.0.reader.wake();
    }
}
