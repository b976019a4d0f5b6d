//! A request's body, weighed while it arrives.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{
    account::Charge,
    scan::{Refusal, Scan},
    shape::Shape,
};
use crate::rpc::{BadField, Subject};

/// Bytes in front of each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Bytes of memory that a byte costs: it waits in a buffer for the end of its message, of which
/// fields are then made.
const COST_OF_A_BYTE: u64 = 2;

/// Bytes of memory that a field costs, apart from its own: its place in a list that grows, and what
/// the allocator adds to it.
const COST_OF_AN_ITEM: u64 = 64;

/// A body that ends with an error as soon as it is more than is allowed.
pub(super) struct Weighed {
    body: Body,
    /// The shape of a request's message, of which there is one or a stream; none where the contract is not ours.
    shape: Option<Arc<Shape>>,
    charge: Arc<Charge>,
    prefix: Vec<u8>,
    /// How many bytes of the message are still to come.
    left: u64,
    /// Messages begun.
    messages: u64,
    scan: Option<Scan>,
    bytes: u64,
    /// What the request is about, for somebody who wants to know.
    subject: Option<Subject>,
}

impl Weighed {
    pub(super) fn new(
        body: Body,
        shape: Option<Arc<Shape>>,
        charge: Arc<Charge>,
        subject: Option<Subject>,
    ) -> Self {
        let prefix = Vec::with_capacity(PREFIX);
        Self { body, shape, charge, prefix, left: 0, messages: 0, scan: None, bytes: 0, subject }
    }

    /// Counts what has arrived.
    fn weigh(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.left == 0 {
                let missing = (PREFIX - self.prefix.len()).min(data.len());
                self.prefix.extend_from_slice(&data[..missing]);
                data = &data[missing..];
                self.begin()?;
                continue;
            }
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
            self.bytes += here as u64;
            self.left -= here as u64;
            if let Some(scan) = &mut self.scan {
                scan.read(&data[..here]).map_err(refused)?;
                if let Some((subject, found)) = self.subject.as_ref().zip(scan.subject()) {
                    subject.set(found);
                }
            }
            data = &data[here..];
        }
        let items = self.scan.as_ref().map_or(0, Scan::items);
        let cost = COST_OF_A_BYTE * self.bytes + COST_OF_AN_ITEM * items;
        self.charge.raise_to(usize::try_from(cost).unwrap_or(usize::MAX)).map_err(Status::from)
    }

    /// Begins a message, once its prefix is whole.
    fn begin(&mut self) -> Result<(), Status> {
        let &[compressed, a, b, c, d] = self.prefix.as_slice() else { return Ok(()) };
        self.prefix.clear();
        self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
        self.messages += 1;
        // Of a stream, one message is held at a time.
        self.bytes = 0;
        let Some(shape) = &self.shape else { return Ok(()) };
        if self.messages > 1 && !shape.is_stream {
            return Err(Status::invalid_argument("the request has more than one message"));
        }
        // What is compressed is refused by tonic, as no encoding was agreed on.
        let scan = || Scan::new(Arc::clone(shape), self.left);
        self.scan = (compressed == 0).then(|| scan().with_subject(self.subject.is_some()));
        Ok(())
    }
}

impl HttpBody for Weighed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.weigh(data)
        {
            tracing::info!(code = ?status.code(), message = status.message(), "request refused");
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Field { path, problem } => BadField::new(path, problem).into(),
        // gRPC's code for that.
        Refusal::Malformed => Status::internal("the request is no message of protobuf"),
    }
}
