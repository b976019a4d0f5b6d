//! A client's streams, and what is wrong with some of them.

use gantry_api::containerd::{
    NAMESPACE_METADATA, from_any,
    streaming::StreamInit,
    to_any,
    types::transfer::{Data, ImageImportStream, ImageStore, Progress, WindowUpdate},
};
use gantry_tests::patiently;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use super::transfer;
use crate::{Bed, assert_refused, of};

/// A stream that is open.
pub(super) struct Stream {
    pub(super) outgoing: mpsc::Sender<Any>,
    pub(super) incoming: Streaming<Any>,
}

impl Stream {
    pub(super) async fn open(bed: &Bed, namespace: &str, id: &str) -> Result<Self, Status> {
        Self::begin(bed, namespace, to_any(&StreamInit { id: id.to_owned() })).await
    }

    /// Opens one with this message.
    async fn begin(bed: &Bed, namespace: &str, first: Any) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(1);
        outgoing.send(first).await.unwrap();
        let messages = of(namespace, ReceiverStream::new(messages));
        let mut incoming = bed.streaming().stream(messages).await?.into_inner();
        let opened = incoming.message().await?.expect("an answer");
        assert_eq!(from_any::<()>(&opened), Ok(Some(())), "{opened:?}");
        Ok(Self { outgoing, incoming })
    }

    /// Sends bytes as far as the server takes them, and then their end.
    pub(super) async fn send_bytes(self, mut data: &[u8]) {
        let Self { outgoing, mut incoming } = self;
        let mut window = 0;
        while !data.is_empty() {
            while window == 0 {
                // The server may close it, as the transfer has failed.
                let Ok(Some(message)) = incoming.message().await else { return };
                let update = from_any::<WindowUpdate>(&message).unwrap().expect("an update");
                window += usize::try_from(update.update).unwrap();
            }
            let (piece, rest) = data.split_at(window.min(32 << 10).min(data.len()));
            let piece = to_any(&Data { data: piece.to_vec() });
            window -= data.len() - rest.len();
            data = rest;
            if outgoing.send(piece).await.is_err() {
                return;
            }
        }
        drop(outgoing);
        while let Ok(Some(_)) = incoming.message().await {}
    }

    /// All bytes that the server sends.
    pub(super) async fn receive_bytes(mut self) -> Vec<u8> {
        let (mut bytes, mut window) = (Vec::new(), 0);
        loop {
            if window < 64 << 10 {
                let update = to_any(&WindowUpdate { update: 64 << 10 });
                if self.outgoing.send(update).await.is_ok() {
                    window += 64 << 10;
                }
            }
            let Ok(Some(message)) = self.incoming.message().await else { return bytes };
            let Data { data } = from_any(&message).unwrap().expect("data");
            assert!(data.len() <= 32 << 10 && data.len() <= window, "{} bytes", data.len());
            window -= data.len();
            bytes.extend(data);
        }
    }

    /// Event and name of everything that the server tells.
    pub(super) async fn progress(mut self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        while let Some(message) = self.incoming.message().await.unwrap() {
            let progress = from_any::<Progress>(&message).unwrap().expect("progress");
            told.push((progress.event, progress.name));
        }
        told
    }
}

#[tokio::test]
async fn a_stream_has_an_id_of_its_own() {
    let Some(bed) = Bed::start().await else { return };
    let first = Stream::open(&bed, "ns", "one").await.unwrap();
    let second = Stream::open(&bed, "ns", "one").await.map(drop);
    assert_refused(second, Code::AlreadyExists, "stream \"one\": already exists");
    // In another namespace it is another stream.
    let _other = Stream::open(&bed, "other", "one").await.unwrap();
    drop(first);
    // It is free when its client is gone.
    let again = async { while Stream::open(&bed, "ns", "one").await.is_err() {} };
    patiently("the id is free", again).await;
    bed.server.finish().await;
}

#[tokio::test]
async fn a_stream_begins_with_its_id() {
    let Some(bed) = Bed::start().await else { return };
    for (first, message) in [
        (to_any(&StreamInit::default()), "id: must not be empty: invalid argument"),
        (
            to_any(&WindowUpdate { update: 1 }),
            "a stream begins with a StreamInit, not with \
             \"containerd.types.transfer.WindowUpdate\": invalid argument",
        ),
        (
            to_any(&StreamInit { id: "x".repeat(1025) }),
            "id: is 1025 bytes long, at most 1024 are allowed: invalid argument",
        ),
    ] {
        let begun = Stream::begin(&bed, "ns", first).await.map(drop);
        assert_refused(begun, Code::InvalidArgument, message);
    }
    let none = ReceiverStream::new(mpsc::channel::<Any>(1).1);
    let mut request = Request::new(none);
    request.metadata_mut().insert(NAMESPACE_METADATA, "ns".parse().unwrap());
    let mut answers = bed.streaming().stream(request).await.unwrap().into_inner();
    let message = "a stream begins with a StreamInit: invalid argument";
    assert_refused(answers.message().await, Code::InvalidArgument, message);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_transfer_needs_streams_that_are_there() {
    let Some(bed) = Bed::start().await else { return };
    let from = ImageImportStream { stream: "none".to_owned(), ..ImageImportStream::default() };
    let store = ImageStore::default();
    let refused = || transfer(&bed, "ns", &from, &store);
    assert_refused(refused().await, Code::NotFound, "stream \"none\": not found");
    let _elsewhere = Stream::open(&bed, "other", "none").await.unwrap();
    assert_refused(refused().await, Code::NotFound, "stream \"none\": not found");
    // What uses a stream has it alone: this one never gets an archive.
    let stream = Stream::open(&bed, "ns", "none").await.unwrap();
    let mut waiting = Box::pin(refused());
    let in_use = async {
        let mut stream = stream;
        // The server asks for bytes as soon as the transfer has the stream.
        let update = stream.incoming.message().await.unwrap().expect("an update");
        assert!(from_any::<WindowUpdate>(&update).unwrap().is_some());
        (refused().await, stream)
    };
    let (second, stream) = tokio::select! {
        done = &mut waiting => panic!("{done:?}"),
        second = in_use => second,
    };
    let message = "stream \"none\": another call uses it: failed precondition";
    assert_refused(second, Code::FailedPrecondition, message);
    drop(stream);
    let done = patiently("the transfer has ended", waiting).await;
    // What it has got is no archive.
    assert!(done.is_err(), "{done:?}");
    bed.server.finish().await;
}
