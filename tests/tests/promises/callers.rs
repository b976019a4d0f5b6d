//! Callers that vanish in the middle of a call leave no half container.

use std::{path::Path, time::Duration};

use gantry_api::{
    event_type,
    types::{AddProcessRequest, CreateContainerRequest, SignalRequest, User},
};
use gantry_tests::{
    PATIENCE, Runtime, Server, events, eventually, improves, runtime::wrapper, service,
};
use tonic::{Code, Request};

const ID: &str = "c";

/// A server whose runtime makes, on demand, a mark of having been called, and never returns.
async fn with_slow_runtime(commands: &str) -> Option<(Server, tempfile::TempDir)> {
    let directory = tempfile::tempdir().expect("a directory for the runtime");
    let (slow, reached) = (directory.path().join("slow"), directory.path().join("reached"));
    let script = format!(
        "case $command in {commands}) if [ -e {} ]; then touch {}; exec sleep 1000000; fi;; esac",
        slow.display(),
        reached.display(),
    );
    let runtime = wrapper(directory.path(), Runtime::Runc, &script);
    // What a caller does not end goes on for longer than a test waits.
    let setup = Server::setup(Runtime::Runc).arguments(&["--start-timeout", "60m"]);
    let server = setup.runtime_path(&runtime).start().await?;
    Some((server, directory))
}

/// Makes the bundle by creating a container once.
async fn bundle_of(server: &Server) -> CreateContainerRequest {
    let container = server.container(ID).without_pipes().create().await.unwrap();
    let bundle_path = container.bundle.to_str().expect("UTF-8").to_owned();
    container.init.kill().await;
    CreateContainerRequest { id: ID.to_owned(), bundle_path, ..Default::default() }
}

fn exec_request() -> AddProcessRequest {
    AddProcessRequest {
        id: ID.to_owned(),
        pid: "e".to_owned(),
        user: Some(User::default()),
        args: vec!["sleep".to_owned(), "1000000".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        ..AddProcessRequest::default()
    }
}

/// However far the call has come when the connection is cut: the container exists and its start is published,
/// or there is nothing of it.
#[tokio::test]
async fn a_container_whose_caller_vanishes_is_whole_or_not_there() {
    if improves("the original keeps what nobody knows of") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let request = bundle_of(&server).await;
    for after in (0..150).step_by(10) {
        let before = server.service.events.position();
        cut(&server.service.socket, Duration::from_millis(after), request.clone()).await;
        // The call that comes next waits for what becomes of the first one, or meets it.
        let retry = server.service.api().create_container(request.clone()).await;
        if let Err(error) = retry {
            assert_eq!(error.code(), Code::AlreadyExists, "{error:?}");
        }
        let begin = std::time::Instant::now();
        while server.service.state(ID).await.is_err() {
            assert!(begin.elapsed() < PATIENCE, "neither there nor can it be made");
            let _ = server.service.api().create_container(request.clone()).await;
        }
        let kill = SignalRequest { id: ID.to_owned(), pid: "init".to_owned(), signal: 9 };
        server.service.api().signal(kill).await.unwrap();
        server.service.events.wait_exit(before, ID, "init").await;
        eventually_gone(&server).await;
        let all = server.service.events.all();
        let starts = all.iter().skip(before).filter(|e| e.r#type == event_type::START_CONTAINER);
        let exits = all.iter().skip(before).filter(|e| e.r#type == event_type::EXIT);
        assert_eq!(starts.count(), exits.count(), "{}", events::listing(&all[before..]));
    }
    server.finish().await;
}

/// Until the server knows nothing of the container.
async fn eventually_gone(server: &Server) {
    let begin = std::time::Instant::now();
    while server.service.state(ID).await.is_ok() {
        assert!(begin.elapsed() < PATIENCE, "it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for a container on a connection that is closed after a while.
async fn cut(socket: &Path, after: Duration, request: CreateContainerRequest) {
    let mut api = service::connect(socket);
    let _ = tokio::time::timeout(after, api.create_container(request)).await;
}

/// A deadline of the caller ends the call, and what it had begun.
#[tokio::test]
async fn a_deadline_is_honoured() {
    if improves("the original knows no deadlines") {
        return;
    }
    let Some((server, directory)) = with_slow_runtime("create|run|exec").await else { return };
    let (slow, reached) = (directory.path().join("slow"), directory.path().join("reached"));
    let request = bundle_of(&server).await;

    std::fs::write(&slow, "").unwrap();
    for deadline in deadlines() {
        let mut create = Request::new(request.clone());
        create.set_timeout(deadline);
        server.service.api().create_container(create).await.expect_err("a deadline");
        if reached.exists() {
            break;
        }
    }
    assert!(reached.exists(), "the runtime was at work");
    std::fs::remove_file(&slow).unwrap();
    std::fs::remove_file(&reached).unwrap();
    create_again(&server, &request).await;

    std::fs::write(&slow, "").unwrap();
    for deadline in deadlines() {
        let mut exec = Request::new(exec_request());
        exec.set_timeout(deadline);
        server.service.api().add_process(exec).await.expect_err("a deadline");
        if reached.exists() {
            break;
        }
    }
    assert!(reached.exists(), "the runtime was at work");
    std::fs::remove_file(&slow).unwrap();
    let state = server.service.state(ID).await.unwrap();
    assert_eq!(state.processes.len(), 1, "the exec is not there");
    exec_again(&server).await;

    let kill = SignalRequest { id: ID.to_owned(), pid: "init".to_owned(), signal: 9 };
    let position = server.service.events.position();
    server.service.api().signal(kill).await.unwrap();
    server.service.events.wait_exit(position, ID, "init").await;
    // One of the bundle, one now, and its exec: what was not started has no events.
    let all = server.service.events.all();
    assert_eq!(all.len(), 6, "{}", events::listing(&all));
    server.finish().await;
}

/// Until one is long enough for a runtime to be called, on a machine however busy.
fn deadlines() -> impl Iterator<Item = Duration> {
    (0..7).map(|round| Duration::from_millis(500) * 2_u32.pow(round))
}

/// The retry waits until nothing is left of the first attempt.
async fn create_again(server: &Server, request: &CreateContainerRequest) {
    let begin = std::time::Instant::now();
    loop {
        match server.service.api().create_container(request.clone()).await {
            Ok(_) => return,
            Err(error) => {
                assert_eq!(error.code(), Code::AlreadyExists, "{error:?}");
                assert!(begin.elapsed() < PATIENCE, "the first one is still there");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn exec_again(server: &Server) {
    let begin = std::time::Instant::now();
    while let Err(error) = server.service.api().add_process(exec_request()).await {
        assert!(begin.elapsed() < PATIENCE, "{error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The exit of a process that dies while its caller is disconnected is still published.
#[tokio::test]
async fn an_exec_whose_caller_vanishes_is_whole_or_not_there() {
    if improves("the original keeps what nobody knows of") {
        return;
    }
    let Some((server, directory)) = with_slow_runtime("exec").await else { return };
    let (slow, reached) = (directory.path().join("slow"), directory.path().join("reached"));
    let container = server.container(ID).without_pipes().create().await.unwrap();
    std::fs::write(&slow, "").unwrap();
    let mut api = service::connect(&server.service.socket);
    let call = tokio::spawn(async move { api.add_process(exec_request()).await });
    eventually("the runtime is called", || reached.exists()).await;
    call.abort();
    std::fs::remove_file(&slow).unwrap();
    exec_again(&server).await;
    assert_eq!(container.state().await.unwrap().processes.len(), 2);
    assert_eq!(container.init.kill().await, 137);
    let all = server.service.events.all();
    assert_eq!(all.len(), 4, "{}", events::listing(&all));
    server.finish().await;
}
