//! Callers that go away.

use gantry_api::containerd::{
    to_any,
    types::transfer::{Data, ImageImportStream},
};
use gantry_tests::patiently;
use tonic::Code;

use super::{any_name, archive, import, left, names, request, stream::Stream, unpacked};
use crate::Bed;

/// Sends half of an archive.
async fn half(bed: &Bed, mut stream: Stream, archive: &[u8]) -> Stream {
    let half = &archive[..archive.len() / 2];
    assert!(half.len() < 64 << 10, "it fits into the window");
    let window = patiently("a window", stream.incoming.message()).await;
    window.unwrap().expect("a window");
    for piece in half.chunks(32 << 10) {
        stream.outgoing.send(to_any(&Data { data: piece.to_vec() })).await.unwrap();
    }
    // The beginning of a blob is written, under a lease.
    let written = async { while left(bed, "ns").await.len() < 2 {} };
    patiently("a write is under way", written).await;
    stream
}

async fn assert_nothing_left(bed: &Bed) {
    let gone = async { while !left(bed, "ns").await.is_empty() {} };
    patiently("nothing is left", gone).await;
    let again = async { while Stream::open(bed, "ns", "bytes").await.is_err() {} };
    patiently("the id is free", again).await;
    assert_eq!(names(bed, "ns").await, Vec::<String>::new());
}

fn an_import() -> ImageImportStream {
    ImageImportStream { stream: "bytes".to_owned(), ..ImageImportStream::default() }
}

/// With a layer that is most of it.
fn large(bed: &Bed) -> Vec<u8> {
    let files = archive::Files::new(bed.server.work().join("large"));
    files.put("0", &[7; 60 << 10]);
    files.tar()
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let Some(bed) = Bed::start().await else { return };
    let archive = large(&bed);
    let store = unpacked(any_name(true));
    let stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let request = request("ns", to_any(&an_import()), to_any(&store), "");
    let mut client = bed.transfer();
    let mut transfer = Box::pin(client.transfer(request));
    let stream = tokio::select! {
        done = &mut transfer => panic!("{done:?}"),
        stream = half(&bed, stream, &archive) => stream,
    };
    // The call is given up; the stream is not.
    drop(transfer);
    assert_nothing_left(&bed).await;
    drop(stream);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_stream_that_is_broken_off_ends_the_transfer() {
    let Some(bed) = Bed::start().await else { return };
    let archive = large(&bed);
    let store = any_name(true);
    let stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let request = request("ns", to_any(&an_import()), to_any(&store), "");
    let mut client = bed.transfer();
    let breaking = async { drop(half(&bed, stream, &archive).await) };
    let (done, ()) = tokio::join!(client.transfer(request), breaking);
    // Its end may come before the news that it was broken off.
    let code = done.unwrap_err().code();
    assert!(matches!(code, Code::Cancelled | Code::InvalidArgument), "{code:?}");
    assert_nothing_left(&bed).await;
    bed.server.finish().await;
}

/// What was under way when a server is killed does not hinder the next one.
#[tokio::test]
async fn a_server_that_is_killed_has_imports_begin_anew() {
    let Some(mut bed) = Bed::start().await else { return };
    let archive = large(&bed);
    let store = any_name(true);
    let stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let request = request("ns", to_any(&an_import()), to_any(&store), "");
    let mut client = bed.transfer();
    let mut transfer = Box::pin(client.transfer(request));
    tokio::select! {
        done = &mut transfer => panic!("{done:?}"),
        _ = half(&bed, stream, &archive) => {}
    }
    bed.server.kill().await;
    assert!(patiently("the call ends", transfer).await.is_err());
    bed.server.start_again().await;
    let whole = archive::docker(bed.server.work(), &["a"]);
    import(&bed, "ns", &whole, &any_name(false)).await.unwrap();
    assert_eq!(names(&bed, "ns").await, ["docker.io/library/a:latest"]);
    bed.server.finish().await;
}
