//! Answers that a client asks for and does not read: they are counted, and others do not suffer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gantry_api::types::{EventsRequest, StateRequest};
use gantry_tests::{
    Container, Runtime, Server, eventually, improves, patiently, processes, service::connect,
    status::assert_error,
};
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    task::JoinSet,
};
use tonic::Code;

/// KiB.
const MIB: u64 = 1 << 10;

/// A message without fields, as gRPC frames it.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

/// A socket from which nothing more is read once the flag is set.
struct Deaf {
    socket: UnixStream,
    is_deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_deaf.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A connection that lets the server send this much, and may stop to read anything at all.
async fn raw(server: &Server, window: u32) -> (SendRequest<Bytes>, Arc<AtomicBool>) {
    let socket = UnixStream::connect(&server.service.socket).await.unwrap();
    let is_deaf = Arc::new(AtomicBool::new(false));
    let socket = Deaf { socket, is_deaf: Arc::clone(&is_deaf) };
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window);
    let (client, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(connection);
    (client, is_deaf)
}

async fn call(client: &SendRequest<Bytes>, method: &str) -> ResponseFuture {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::post(format!("http://localhost/types.API/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(EMPTY, true).unwrap();
    response
}

/// Containers whose State answer has two megabytes.
async fn talkative(server: &Server) -> Vec<Container> {
    let mut creates = JoinSet::new();
    for number in 0..8 {
        let labels = vec!["x".repeat(127 << 10); 2];
        let container = server.container(&format!("c{number}")).without_pipes();
        creates.spawn(container.request(|request| request.labels = labels).create());
    }
    creates.join_all().await.into_iter().map(Result::unwrap).collect()
}

async fn end(server: Server, containers: Vec<Container>) {
    for container in containers {
        container.init.kill().await;
    }
    server.finish().await;
}

/// Whether the client has room for them, and whether it reads what is on the socket or not.
#[rstest::rstest]
#[case::without_room((64 << 10) - 1, false)]
#[case::deaf(1 << 30, true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_have_only_so_much_memory(
    #[case] window: u32,
    #[case] deaf: bool,
) {
    if improves("gigabytes") {
        return;
    }
    const COUNT: usize = 2000;
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let containers = talkative(&server).await;
    let (client, is_deaf) = raw(&server, window).await;
    // What the server has to say about the connection itself.
    call(&client, "GetServerVersion").await.await.unwrap();
    is_deaf.store(deaf, Ordering::SeqCst);
    let mut responses = Vec::new();
    let mut most = 0;
    for _ in 0..COUNT {
        responses.push(patiently("the request is taken", call(&client, "State")).await);
        most = most.max(processes::memory(server.pid(), "VmRSS"));
    }
    // Others are answered meanwhile, and after all of these have been dealt with.
    let mut others = connect(&server.service.socket);
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let state = patiently("others are answered", others.state(StateRequest::default())).await;
        assert_eq!(state.unwrap().into_inner().containers.len(), 8);
    }
    if !deaf {
        let mut refused = 0;
        for response in &mut responses {
            let response = patiently("the answer begins", response).await.unwrap();
            refused += usize::from(response.headers().get("grpc-status").is_some());
        }
        // 256 MiB of answers, each of 2 MiB.
        assert!((COUNT - 140..COUNT - 100).contains(&refused), "{refused} refused");
    }
    let most = processes::memory(server.pid(), "VmHWM");
    println!("{most} KiB at most");
    assert!(most < 450 * MIB, "{most} KiB");
    drop((responses, client));
    is_deaf.store(false, Ordering::SeqCst);
    eventually("memory goes back", || processes::memory(server.pid(), "RssAnon") < 64 * MIB).await;
    end(server, containers).await;
}

/// Many of them, and more than they may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_that_are_not_read_have_only_so_much_memory() {
    if improves("as much as there are events") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").without_pipes().create().await.unwrap();
    let (client, is_deaf) = raw(&server, 1 << 30).await;
    let mut streams = Vec::new();
    for _ in 0..256 {
        let response = patiently("a stream begins", call(&client, "Events").await).await.unwrap();
        assert!(response.headers().get("grpc-status").is_none());
        streams.push(response);
    }
    let refused = call(&client, "Events").await.await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8");
    let mut other = connect(&server.service.socket);
    let mut follower = other.events(EventsRequest::default()).await.unwrap().into_inner();

    is_deaf.store(true, Ordering::SeqCst);
    let before = processes::memory(server.pid(), "VmRSS");
    const PAUSES: usize = 10;
    for _ in 0..PAUSES {
        container.pause().await;
        container.resume().await;
    }
    for _ in 0..2 * PAUSES {
        patiently("an event of another stream", follower.message()).await.unwrap().unwrap();
    }
    let grown = processes::memory(server.pid(), "VmHWM") - before;
    println!("{grown} KiB for {} events", 2 * PAUSES);
    assert!(grown < 32 * MIB, "{grown} KiB");
    drop((streams, client, follower, other));
    // There is room again.
    let (client, _is_deaf) = raw(&server, 1 << 20).await;
    let again = call(&client, "Events").await.await.unwrap();
    assert!(again.headers().get("grpc-status").is_none());
    drop((again, client));
    container.init.kill().await;
    let gone = server.service.api().state(StateRequest { id: container.id.clone() }).await;
    assert_error(gone, Code::NotFound, &["container not found"]);
    server.finish().await;
}
