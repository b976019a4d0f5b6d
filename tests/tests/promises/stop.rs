//! An orderly stop: calls under way are answered, and whoever follows events loses its connection.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use gantry_tests::{PATIENCE, Runtime, Server, eventually, improves, processes, runtime::wrapper};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// An HTTP/2 connection of a client that follows events, spoken by hand: a library would not show
/// which frames have come.
struct Follower {
    socket: UnixStream,
    received: Vec<u8>,
}

/// A frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Follower {
    fn connect(socket: &Path) -> Self {
        let mut socket = UnixStream::connect(socket).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        socket.write_all(&hello).expect("greet");
        Self { socket, received: Vec::new() }
    }

    /// Calls `types.API/Events` without a timestamp.
    fn follow(&mut self, stream: u8) {
        self.call(stream, "/types.API/Events");
    }

    /// Calls with a message that is empty.
    fn call(&mut self, stream: u8, path: &str) {
        self.open(stream, path);
        let message = frame(DATA, END_STREAM, stream, &[0; 5]);
        self.socket.write_all(&message).expect("call");
    }

    /// Begins a call.
    fn open(&mut self, stream: u8, path: &str) {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        // Literal fields without indexing (RFC 7541 §6.2.2), uncompressed.
        let block: Vec<u8> = fields
            .iter()
            .flat_map(|(name, value)| {
                let length = |text: &str| u8::try_from(text.len()).expect("short");
                let name = [&[0, length(name)], name.as_bytes()].concat();
                [&name[..], &[length(value)], value.as_bytes()].concat()
            })
            .collect();
        self.socket.write_all(&frame(HEADERS, END_HEADERS, stream, &block)).expect("open a call");
    }

    /// Reads until a wanted frame has come.
    fn wait_for(&mut self, wanted: impl Fn(Frame) -> bool) {
        while !frames(&self.received).into_iter().any(&wanted) {
            assert!(self.read(), "the connection ended; came: {:?}", frames(&self.received));
        }
    }

    /// Reads the rest: every frame that came, up to the bare end of the connection.
    fn rest(mut self) -> Vec<Frame> {
        while self.read() {}
        frames(&self.received)
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("cannot read: {error}"),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The frames that have come whole.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while let Some((&[a, b, c, kind, flags, stream @ ..], rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(rest) = rest.get(length..) else { break };
        found.push(Frame { kind, flags, stream: u32::from_be_bytes(stream) });
        bytes = rest;
    }
    found
}

/// Checks that no frame shows a client anything but a lost connection.
fn assert_no_farewell(frames: &[Frame]) {
    let says_goodbye = |frame: &Frame| match frame.kind {
        RST_STREAM | GOAWAY => true,
        HEADERS | DATA => frame.flags & END_STREAM != 0,
        _ => false,
    };
    let farewells: Vec<_> = frames.iter().filter(|frame| says_goodbye(frame)).collect();
    assert!(farewells.is_empty(), "a farewell: {farewells:?} of {frames:?}");
}

/// Whether a stream has been answered with the beginning of events.
fn is_answer(stream: u32) -> impl Fn(Frame) -> bool {
    move |frame| frame.kind == HEADERS && frame.stream == stream
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test]
async fn a_follower_of_events_sees_a_lost_connection() {
    if improves("the original ends its streams") {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let Some(mut server) = Server::own(Runtime::Runc).await else { return };
        let socket = server.service.socket.clone();
        let followers = blocking(move || {
            [1, 2].map(|streams: u8| {
                let mut follower = Follower::connect(&socket);
                for stream in (1..).step_by(2).take(streams.into()) {
                    follower.follow(stream);
                    follower.wait_for(is_answer(stream.into()));
                }
                follower
            })
        })
        .await;
        let container = server.container("c").without_pipes().create().await.unwrap();
        let followers = blocking(move || {
            followers.map(|mut follower| {
                follower.wait_for(|frame| frame.kind == DATA);
                follower
            })
        })
        .await;
        let ended = server.end(signal).await;
        assert!(ended.0.success(), "{ended:?}");
        for frames in blocking(move || followers.map(Follower::rest)).await {
            assert_no_farewell(&frames);
        }
        server.start_again().await;
        assert_eq!(container.init.kill().await, 137);
        server.finish().await;
    }
}

/// A connection that follows events, and knows that it does.
async fn followed(server: &Server) -> Follower {
    let socket = server.service.socket.clone();
    blocking(move || {
        let mut follower = Follower::connect(&socket);
        follower.follow(1);
        follower.wait_for(is_answer(1));
        follower
    })
    .await
}

/// How long a server that is to stop waits for a call under way.
const WAITED_FOR: Duration = Duration::from_secs(2);

/// The stop comes after the runtime has done its work and before it returns.
#[tokio::test]
async fn a_call_under_way_is_answered() {
    if improves("the original ends at once") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let (done, go) = (server.work().join("done"), server.work().join("go"));
    let script = format!(
        "if [ $command = run ]; then runc \"$@\"; code=$?; touch {done}; read _ < {go}; exit $code; fi",
        done = done.display(),
        go = go.display()
    );
    mknodat(CWD, &go, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let runtime = wrapper(server.work(), Runtime::Runc, &script);
    for round in 1.. {
        let slow = server.container("slow").runtime(Runtime::Runc).without_pipes();
        let slow = slow.request(|request| request.runtime = runtime.to_str().unwrap().to_owned());
        let follower = followed(&server).await;
        let call = tokio::spawn(slow.create());
        eventually("the runtime has done its work", || done.exists()).await;
        let begin = Instant::now();
        processes::signal(server.pid(), Signal::TERM);
        let socket = server.service.socket.clone();
        eventually("no more connections", || UnixStream::connect(&socket).is_err()).await;
        // Open for reading too, it does not wait for who reads.
        let mut gate = File::options().read(true).write(true).open(&go).unwrap();
        writeln!(gate).unwrap();
        let answer = call.await.unwrap();
        let time = begin.elapsed();
        let ended = server.end(Signal::TERM).await;
        assert!(ended.0.success(), "{ended:?}");
        assert_no_farewell(&blocking(move || follower.rest()).await);
        server.start_again().await;
        match answer {
            Ok(container) => {
                assert_eq!(container.init.kill().await, 137);
                break;
            }
            // A busy machine may take longer than a call is waited for, but not each time.
            Err(error) => assert!(time >= WAITED_FOR && round < 20, "{error:?} after {time:?}"),
        }
        std::fs::remove_file(&done).unwrap();
    }
    server.finish().await;
}

/// A call that never ends does not keep the server: a daemon waits 3 s.
#[tokio::test]
async fn a_call_that_never_ends_is_given_up() {
    if improves("the original ends at once") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let reached = server.work().join("reached");
    let script = format!(
        "case $command in create|run) touch {}; exec sleep 1000000;; esac",
        reached.display()
    );
    let runtime = wrapper(server.work(), Runtime::Runc, &script);
    let stuck = server.container("stuck").runtime(Runtime::Runc).without_pipes();
    let stuck = stuck.request(|request| request.runtime = runtime.to_str().unwrap().to_owned());
    let call = tokio::spawn(stuck.create());
    eventually("the runtime is called", || reached.exists()).await;
    let (status, took) = server.end(Signal::TERM).await;
    assert!(status.success(), "{status}");
    // What a busy machine needs is added to it.
    assert!(took < WAITED_FOR + Duration::from_secs(30), "{took:?}");
    call.await.unwrap().expect_err("the server is gone");
    server.start_again().await;
    let state = server.state_dir().join("containers/types/stuck");
    eventually("the call is undone", || !state.exists()).await;
    server.finish().await;
}

/// Watches of health, reflection whose client may ask more, and containerd's events are as endless.
#[tokio::test]
async fn no_endless_call_delays_a_stop() {
    if improves("it has neither") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let socket = server.service.socket.clone();
    let watch = "/grpc.health.v1.Health/Watch";
    let reflect =
        |version| format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let follower = blocking(move || {
        let mut follower = Follower::connect(&socket);
        follower.call(1, watch);
        follower.wait_for(|frame| frame.kind == DATA && frame.stream == 1);
        for (stream, version) in [(3, "v1"), (5, "v1alpha")] {
            follower.open(stream, &reflect(version));
            follower.wait_for(is_answer(stream.into()));
        }
        follower.call(7, "/containerd.services.events.v1.Events/Subscribe");
        follower.wait_for(is_answer(7));
        follower
    })
    .await;
    let ended = server.end(Signal::TERM).await;
    assert!(ended.0.success(), "{ended:?}");
    assert!(!server.log().contains("given up"), "{}", server.log());
    assert_no_farewell(&blocking(move || follower.rest()).await);
    server.start_again().await;
    server.finish().await;
}

/// A daemon connects again as soon as its connection is lost: the server that is killed is not to let it
/// in, only to lose it again.
#[tokio::test]
async fn who_has_lost_a_connection_cannot_make_another() {
    if improves("the kernel closes its socket last") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    for signal in [Signal::KILL, Signal::TERM].into_iter().cycle().take(10) {
        let follower = followed(&server).await;
        let socket = server.service.socket.clone();
        let again = blocking(move || {
            follower.rest();
            UnixStream::connect(&socket)
        });
        let (again, _) = tokio::join!(again, server.end(signal));
        again.expect_err("nobody listens");
        server.start_again().await;
    }
    server.finish().await;
}
