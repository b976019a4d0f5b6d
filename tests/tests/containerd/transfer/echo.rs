//! Bytes that come back: from a stream of an import to one of an export.

use gantry_api::containerd::types::transfer::{ImageExportStream, ImageImportStream};

use super::{left, stream::Stream, transfer};
use crate::Bed;

#[tokio::test]
async fn a_client_gets_back_what_it_sends() {
    let Some(bed) = Bed::start().await else { return };
    let big = b"some content".repeat(20_000);
    for sent in [&b""[..], b"some content", &big] {
        let (from, to) = ("from".to_owned(), "to".to_owned());
        let outgoing = Stream::open(&bed, "ns", &from).await.unwrap();
        let incoming = Stream::open(&bed, "ns", &to).await.unwrap();
        let from = ImageImportStream { stream: from, ..ImageImportStream::default() };
        let to = ImageExportStream { stream: to, ..ImageExportStream::default() };
        let (done, (), received) = tokio::join!(
            transfer(&bed, "ns", &from, &to),
            outgoing.send_bytes(sent),
            incoming.receive_bytes()
        );
        done.unwrap();
        assert!(received == sent, "{} bytes became {}", sent.len(), received.len());
    }
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}
