//! What requests may cost, and that the cost is checked before it is incurred.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use gantry_api::types::{
    AddProcessRequest, CreateContainerRequest, GetServerVersionRequest, Rlimit, StateRequest,
};
use gantry_tests::{
    Runtime, Server, eventually, improves, patiently, processes, runtime::wrapper,
    service::connect, status::assert_error,
};
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use rustix::process::Signal;
use tokio::{net::UnixStream, task::JoinSet};
use tonic::Code;

/// KiB.
const MIB: u64 = 1 << 10;

/// A connection on which requests can be sent in part.
async fn raw(server: &Server) -> SendRequest<Bytes> {
    let socket = UnixStream::connect(&server.service.socket).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Begins an AddProcess whose message is to have this length, and sends that much of it.
async fn upload(
    client: &SendRequest<Bytes>,
    length: usize,
    content: &Bytes,
) -> (h2::SendStream<Bytes>, ResponseFuture) {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::post("http://localhost/types.API/AddProcess")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let length = u32::try_from(length).unwrap().to_be_bytes();
    let prefix = Bytes::from([&[0], &length[..]].concat());
    for mut rest in [prefix, content.clone()] {
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            // None, or an error, once the server has answered.
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return (stream, response);
            };
            let part = rest.split_to(room.min(rest.len()));
            if stream.send_data(part, false).is_err() {
                return (stream, response);
            }
        }
    }
    (stream, response)
}

/// What the server says at once, without having read everything.
async fn refusal(response: ResponseFuture) -> (String, String) {
    let response = patiently("a refusal", response).await.unwrap();
    let text = |name| response.headers()[name].to_str().unwrap().to_owned();
    (text("grpc-status"), text("grpc-message"))
}

/// A message that begins like this.
fn message(field: u8, strings: usize, length: usize) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 0..strings {
        message.push(field << 3 | 2);
        let mut left = length;
        while left >= 0x80 {
            message.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
            left >>= 7;
        }
        message.push(u8::try_from(left).unwrap());
        message.resize(message.len() + length, b'x');
    }
    message
}

#[tokio::test]
async fn fields_are_counted_before_they_cost() {
    if improves("43 s and 4.6 GB") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let client = raw(&server).await;
    let capabilities = Bytes::from(message(11, 20_000_000, 0));
    let (_stream, response) = upload(&client, capabilities.len(), &capabilities).await;
    let (code, words) = refusal(response).await;
    assert_eq!(code, "3", "{words}");
    assert!(words.contains("capabilities"), "{words}");

    // The error that an ordinary client gets, also for lists of messages.
    let rlimits = vec![Rlimit::default(); 5000];
    let request = AddProcessRequest { rlimits, ..AddProcessRequest::default() };
    let result = server.service.api().add_process(request).await;
    assert_error(result, Code::InvalidArgument, &["rlimits"]);
    let cwd = "x".repeat(60 << 20);
    let request = AddProcessRequest { cwd, ..AddProcessRequest::default() };
    let result = server.service.api().add_process(request).await;
    assert_error(result, Code::InvalidArgument, &["cwd"]);

    let most = processes::memory(server.pid(), "VmHWM");
    assert!(most < 64 * MIB, "{most} KiB");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_have_only_so_much_memory_together() {
    if improves("forty of them have it killed") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let client = raw(&server).await;
    // As much as a request can have, all of it allowed: almost 4 MiB.
    let content = [message(4, 15, 128 << 10), message(5, 15, 128 << 10)].concat();
    let (length, content) = (content.len() + 1, Bytes::from(content));
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(upload(&client, length, &content).await);
    }
    let others = raw(&server).await;
    let mut further = Vec::new();
    for client in [&client, &others] {
        for _ in 0..60 {
            further.push(upload(client, length, &content).await);
        }
    }
    let mut refused = 0;
    let refusing = async {
        while refused <= 60 {
            let mut kept = Vec::new();
            for (stream, mut response) in further.drain(..) {
                match now(&mut response).await {
                    Some(answer) => {
                        assert_eq!(answer.unwrap().headers()["grpc-status"], "8");
                        refused += 1;
                    }
                    None => kept.push((stream, response)),
                }
            }
            further = kept;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("more than sixty are refused", refusing).await;
    for (_, response) in &mut held {
        assert!(now(response).await.is_none(), "64 MiB of one connection are held");
    }
    // Small requests are accepted all the same, on the full connections and on others.
    server.service.api().state(StateRequest::default()).await.unwrap();
    let (_stream, response) = upload(&client, 3, &Bytes::from_static(b"\x0a\x01c")).await;
    drop(response);
    let most = processes::memory(server.pid(), "VmHWM");
    assert!(most < 450 * MIB, "{most} KiB");

    drop((held, further, client, others));
    let request = AddProcessRequest {
        id: "none".to_owned(),
        pid: "p".to_owned(),
        args: vec!["x".repeat(128 << 10); 15],
        env: vec!["x".repeat(128 << 10); 15],
        ..AddProcessRequest::default()
    };
    let result = server.service.api().add_process(request).await;
    assert_error(result, Code::NotFound, &["container not found"]);
    eventually("memory goes back", || processes::memory(server.pid(), "RssAnon") < 48 * MIB).await;
    server.finish().await;
}

/// The answer, if it is there.
async fn now(response: &mut ResponseFuture) -> Option<<ResponseFuture as Future>::Output> {
    tokio::select! {
        biased;
        answer = response => Some(answer),
        () = std::future::ready(()) => None,
    }
}

/// Launches at work when more are asked for.
fn turns() -> usize {
    (2 * std::thread::available_parallelism().unwrap().get()).max(4)
}

/// A server, and a runtime that hangs whenever it is to make something.
async fn with_hanging_runtime(arguments: &[&str]) -> Option<(Server, String)> {
    let server = Server::setup(Runtime::Runc).arguments(arguments).start().await?;
    let script = "case $command in create|run) exec sleep 1000000;; esac";
    let runtime = wrapper(server.work(), Runtime::Runc, script);
    let runtime = runtime.to_str().unwrap().to_owned();
    Some((server, runtime))
}

fn hanging(server: &Server, runtime: &str, number: usize) -> gantry_tests::NewContainer {
    let stuck = server.container(&format!("stuck{number}")).without_pipes();
    // With a root of its own: others have containers of these ids, too.
    let stuck = stuck.runtime(Runtime::Runc);
    stuck.request(|request| request.runtime = runtime.to_owned())
}

#[tokio::test]
async fn nothing_waits_for_launches_that_hang() {
    if improves("ten of them stop it") {
        return;
    }
    let Some((server, runtime)) = with_hanging_runtime(&[]).await else { return };
    let mut stuck = JoinSet::new();
    for number in 0..2 * turns() {
        stuck.spawn(hanging(&server, &runtime, number).create());
    }
    let container = server.container("lively").create();
    // Those that hang have two minutes.
    let container = tokio::time::timeout(Duration::from_secs(60), container).await;
    assert_eq!(container.expect("at once").unwrap().init.kill().await, 137);
    // Whoever goes away leaves the queue, and nothing of what was begun is left.
    stuck.shutdown().await;
    let state = server.state_dir().join("containers/types");
    let is_empty = || state.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    eventually("the calls are undone", is_empty).await;
    server.finish().await;
}

/// What many small pieces had is given back to the system, and not only to the next request.
#[tokio::test]
async fn memory_goes_back_after_load() {
    if improves("hundreds of megabytes stay") {
        return;
    }
    let Some((server, runtime)) = with_hanging_runtime(&[]).await else { return };
    let resident = || processes::memory(server.pid(), "RssAnon");
    let labels: Vec<_> = (0..16_000).map(|number| format!("label-{number}")).collect();
    let mut stuck = JoinSet::new();
    for number in 0..120 {
        let stuck_one = hanging(&server, &runtime, number);
        stuck.spawn(stuck_one.request(|request| request.labels.clone_from(&labels)).create());
    }
    eventually("they wait", || resident() > 100 * MIB).await;
    stuck.shutdown().await;
    eventually("memory goes back", || resident() < 48 * MIB).await;
    server.finish().await;
}

/// The last of these get their turn when as much time has passed twice, as one that hangs counts for a second.
#[tokio::test]
async fn the_wait_for_a_turn_is_no_part_of_the_start() {
    if improves("it waits for ever") {
        return;
    }
    let arguments = ["--start-timeout", "1s"];
    let Some((server, runtime)) = with_hanging_runtime(&arguments).await else { return };
    let mut stuck = JoinSet::new();
    for number in 0..3 * turns() {
        stuck.spawn(hanging(&server, &runtime, number).create());
    }
    for result in stuck.join_all().await {
        let error = result.unwrap_err();
        // Each had a runtime, which was killed.
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
        assert!(error.message().contains("runtime run did not finish within 1 s"), "{error:?}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_stop_refuses_queued_launches() {
    if improves("it has no queue") {
        return;
    }
    let Some((mut server, runtime)) = with_hanging_runtime(&[]).await else { return };
    let mut api = connect(&server.service.socket);
    api.get_server_version(GetServerVersionRequest {}).await.unwrap();
    let mut stuck = JoinSet::new();
    for number in 0..3 * turns() {
        let mut request = CreateContainerRequest::default();
        let container = hanging(&server, &runtime, number);
        let _ = container.request(|asked| request = asked.clone()).bundle();
        let mut api = api.clone();
        stuck.spawn(async move { api.create_container(request).await });
    }
    let waiting = server.state_dir().join("containers/types");
    let begun = || waiting.read_dir().is_ok_and(|entries| entries.count() >= turns());
    eventually("all turns are taken", begun).await;
    let stopping = server.end(Signal::TERM);
    let first = async { stuck.join_next().await.unwrap().unwrap() };
    let ((status, _), first) = tokio::join!(stopping, first);
    assert!(status.success(), "{status}");
    assert_error(first, Code::Unavailable, &["stopping"]);
    drop(stuck);
    server.start_again().await;
    server.finish().await;
}
