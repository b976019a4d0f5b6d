//! Files of callers that hold up whoever reads them, or have no end: nobody else waits.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    time::{Duration, Instant},
};

use gantry_api::types::{CreateContainerRequest, ListCheckpointRequest};
use gantry_tests::{
    Runtime, Server, dead_mount::DeadMount, eventually, improves, patiently, service::Api,
    status::assert_error,
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// More than a busy machine needs. A call that waited for the dead mount would get DEADLINE_EXCEEDED.
const AT_ONCE: Duration = Duration::from_secs(30);

/// More than there can be threads for them.
const CALLS: usize = 200;

fn make_fifo(path: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, path, FileType::Fifo, mode, 0).expect("make a named pipe");
}

async fn create(mut api: Api, id: &str, bundle: &Path) -> Result<(), Status> {
    let request = CreateContainerRequest {
        id: id.to_owned(),
        bundle_path: bundle.to_str().expect("UTF-8").to_owned(),
        ..CreateContainerRequest::default()
    };
    api.create_container(request).await.map(drop)
}

/// Everything goes on as ever, on the same connection as what hangs: the calls, health included.
async fn live(server: &Server, id: &str) {
    let begin = Instant::now();
    let container = server.container(id).without_pipes().create().await.unwrap();
    let exec = container.exec("e").without_pipes().sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    assert_eq!(container.state().await.unwrap().status, "running");
    assert_eq!(container.init.kill().await, 137);
    let socket = gantry_tests::service::endpoint(&server.service.socket);
    let mut health = HealthClient::new(socket.connect_lazy());
    health.check(HealthCheckRequest::default()).await.unwrap();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_config_is_a_regular_file_of_some_size() {
    if improves("the original reads whatever is there") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let bundle = |name: &str| {
        let bundle = server.work().join(name);
        fs::create_dir(&bundle).unwrap();
        bundle
    };
    let case = async |kind: &str, make: &dyn Fn(&Path)| {
        let bundle = bundle(&kind.replace(' ', "-"));
        let config = bundle.join("config.json");
        make(&config);
        let created = create(server.service.api(), "odd", &bundle).await;
        assert_error(created, Code::InvalidArgument, &[config.to_str().unwrap(), kind]);
    };
    case("a named pipe", &make_fifo).await;
    case("a device", &|config| symlink("/dev/zero", config).unwrap()).await;
    case("a socket", &|config| drop(UnixListener::bind(config).unwrap())).await;
    case("a directory", &|config| fs::create_dir(config).unwrap()).await;
    case("larger than 16 MiB", &|config| {
        File::create(config).unwrap().set_len(6 << 30).unwrap();
    })
    .await;

    let pipe = server.work().join("pipe");
    make_fifo(&pipe);
    let created = create(server.service.api(), "odd", &pipe).await;
    assert_error(created, Code::InvalidArgument, &["not a directory"]);
    live(&server, "lively").await;
    server.finish().await;
}

#[tokio::test]
async fn a_checkpoint_is_made_of_regular_files() {
    if improves("the original reads whatever is there") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").without_pipes().create().await.unwrap();
    let checkpoints = container.bundle.join("checkpoints");
    for name in ["good", "pipe"] {
        fs::create_dir_all(checkpoints.join(name)).unwrap();
    }
    fs::write(checkpoints.join("good/config.json"), r#"{"name":"good"}"#).unwrap();
    make_fifo(&checkpoints.join("pipe/config.json"));
    let list = ListCheckpointRequest { id: container.id.clone(), ..Default::default() };
    let listed = server.service.api().list_checkpoint(list).await.unwrap().into_inner();
    let names: Vec<_> = listed.checkpoints.iter().map(|checkpoint| &*checkpoint.name).collect();
    assert_eq!(names, ["good"]);

    let restored = server.container("r").request(|request| {
        request.checkpoint = "pipe".to_owned();
        request.checkpoint_dir = checkpoints.to_str().unwrap().to_owned();
    });
    assert_error(restored.create().await, Code::InvalidArgument, &["a named pipe"]);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

#[tokio::test]
async fn nothing_waits_for_a_dead_mount() {
    if improves("the original waits") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").without_pipes().create().await.unwrap();
    let Some(mount) = DeadMount::new(&server.work().join("dead")) else { return };
    let link = server.work().join("link");
    symlink(&mount.path, &link).unwrap();
    let bundle = server.work().join("linked-config");
    fs::create_dir(&bundle).unwrap();
    symlink(link.join("config.json"), bundle.join("config.json")).unwrap();

    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let bundle = match number % 4 {
                0 => mount.path.clone(),
                1 => mount.path.join("bundle"),
                2 => link.join("bundle"),
                _ => bundle.clone(),
            };
            let api = server.service.api();
            tokio::spawn(async move { create(api, &format!("dead-{number}"), &bundle).await })
        })
        .collect();
    let list = ListCheckpointRequest {
        id: container.id.clone(),
        checkpoint_dir: link.to_str().unwrap().to_owned(),
    };
    let mut api = server.service.api();
    let listing = tokio::spawn(async move { api.list_checkpoint(list).await });
    let runtime = mount.path.join("runc").to_str().unwrap().to_owned();
    let runtime = server.container("runtime").request(|request| request.runtime = runtime);
    let on_runtime = tokio::spawn(runtime.without_pipes().create());
    let pid = server.pid();
    eventually("some of them wait in the kernel", || waiting_threads(pid) >= 2).await;
    for round in 0..3 {
        live(&server, &format!("lively-{round}")).await;
    }
    for call in calls {
        let called = patiently("a call has a deadline", call).await.unwrap();
        assert_error(called, Code::DeadlineExceeded, &[server.work().to_str().unwrap()]);
    }
    let listed = patiently("the list has a deadline", listing).await.unwrap();
    assert_error(listed, Code::DeadlineExceeded, &["link"]);
    let created = patiently("the create has a deadline", on_runtime).await.unwrap();
    assert_error(created, Code::DeadlineExceeded, &["dead/runc"]);

    // The threads are still there, and still nothing waits for them.
    live(&server, "after").await;
    assert_eq!(container.init.kill().await, 137);
    let (status, after) = server.end(Signal::TERM).await;
    assert!(status.success() && after < AT_ONCE, "{status} after {after:?}");
    drop(mount);
    server.start_again().await;
    server.finish().await;
}

/// How many threads of a process wait for a FUSE file system.
fn waiting_threads(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let places = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stack")).ok());
    places.filter(|stack| stack.contains("fuse_")).count()
}
