//! A state directory on a disk that is frozen for a backup, or answers slowly: what has to be written there waits,
//! and nothing else does. After the thaw everything comes as it would have.

use std::{
    fs,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use gantry_api::{
    Timestamp, event_type,
    types::{EventsRequest, GetServerVersionRequest, StateRequest, StatsRequest},
};
use gantry_tests::{
    Runtime, Server,
    disk::Disk,
    eventually, improves, leftovers, patiently, processes,
    service::{connect, endpoint},
};
use rustix::process::Signal;
use tokio::{net::UnixDatagram, task::JoinSet, time::sleep_until};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// More than the server has threads of any kind.
const MANY: usize = 12;

/// How long an answer may take that has nothing to wait for but those who do not answer, for whom State waits 2 s;
/// and what a busy machine needs.
const SOON: Duration = Duration::from_secs(10);

/// Longer than a shim's report of an exit is waited for where the disk answers.
const LONG: Duration = Duration::from_secs(5);

/// A server with its state on a disk of its own.
async fn server_on_disk(variables: &[(&str, &str)]) -> Option<(Disk, Server)> {
    if improves("the original waits with all its threads") {
        return None;
    }
    let disk = Disk::mount()?;
    let state = disk.path().join("state");
    let mut setup = Server::setup(Runtime::Runc);
    for (name, value) in variables {
        setup = setup.variable(name, value);
    }
    let server = setup.arguments(&["--state-dir", state.to_str().unwrap()]).start().await?;
    Some((disk, server))
}

/// Threads of a process that wait for a disk to be thawed: in percpu_rwsem_wait() or __percpu_down_read() of the
/// kernel, which writes that are only slow do not wait in.
fn held(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let places = tasks.filter_map(|task| fs::read_to_string(task.path().join("wchan")).ok());
    places.filter(|place| place.contains("percpu")).count()
}

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what} waits for a disk"),
    }
}

/// Everything that needs nothing of the disk.
async fn goes_on(server: &Server, living: &str, known: usize) {
    let mut api = server.service.api();
    soon("GetServerVersion", api.get_server_version(GetServerVersionRequest {})).await.unwrap();
    let state = soon("State", api.state(StateRequest::default())).await.unwrap().into_inner();
    assert_eq!(state.containers.len(), known, "{state:?}");
    let stats = StatsRequest { id: living.to_owned() };
    let stats = soon("Stats", api.stats(stats)).await.unwrap().into_inner();
    assert!(stats.cgroup_stats.is_some(), "{stats:?}");

    let mut client = connect(&server.service.socket);
    let timestamp = Some(Timestamp { seconds: 1, nanos: 0 });
    let request = EventsRequest { timestamp, ..EventsRequest::default() };
    let mut events = soon("Events", client.events(request)).await.unwrap().into_inner();
    let first = soon("an event", events.message()).await.unwrap().expect("an event");
    assert_eq!(first.r#type, event_type::START_CONTAINER);

    let mut health = HealthClient::new(endpoint(&server.service.socket).connect_lazy());
    let request = HealthCheckRequest { service: "types.API".to_owned() };
    let health = soon("health", health.check(request)).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_frozen_disk_delays_only_calls_that_need_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    let watchdog = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "3000000")];
    let Some((disk, server)) = server_on_disk(&watchdog).await else { return };
    let mut containers = Vec::new();
    for number in 0..MANY {
        let container = server.container(&format!("old{number}")).without_pipes();
        containers.push(container.create().await.unwrap());
    }
    let living = server.container("living").without_pipes().create().await.unwrap();
    let paused = server.container("paused").without_pipes().create().await.unwrap();

    let frozen = disk.freeze();
    let begin = tokio::time::Instant::now();
    for container in &containers {
        soon("a signal", container.init.signal(9)).await.unwrap();
    }
    let mut creates = JoinSet::new();
    for number in 0..MANY {
        creates.spawn(server.container(&format!("new{number}")).without_pipes().create());
    }
    // The runtime does it, and then it has to be journalled.
    let pause = async {
        paused.pause().await;
        paused.resume().await;
    };
    let meanwhile = async {
        eventually("everything that writes waits", || held(server.pid()) >= 8).await;
        goes_on(&server, &living.id, MANY + 2).await;
        let mut message = [0; 256];
        while notify.try_recv(&mut message).is_ok() {}
        soon("the watchdog", notify.recv(&mut message)).await.unwrap();
        sleep_until(begin + LONG).await;
        goes_on(&server, &living.id, MANY + 2).await;
        assert!(creates.try_join_next().is_none(), "nothing is made that is not written down");
        frozen.thaw();
    };
    tokio::join!(pause, meanwhile);

    for container in &containers {
        assert_eq!(container.init.exit().await, 137, "{}", container.id);
    }
    for created in patiently("the creates", creates.join_all()).await {
        assert_eq!(created.unwrap().init.kill().await, 137);
    }
    for container in [living, paused] {
        assert_eq!(container.init.kill().await, 137);
    }
    assert!(!server.log().contains("lost the shim"), "{}", server.log());
    finish(disk, server).await;
}

#[tokio::test]
async fn a_server_stops_though_its_disk_is_frozen() {
    let Some((disk, mut server)) = server_on_disk(&[]).await else { return };
    let container = server.container("c").without_pipes().create().await.unwrap();
    // It is made on that disk, too.
    let spare = || processes::spare_shim(&disk.path(), &server.service.cgroup).is_some();
    eventually("a shim for the next process", spare).await;
    let frozen = disk.freeze();
    let create = tokio::spawn(server.container("new").without_pipes().create());
    eventually("the create waits", || held(server.pid()) > 0).await;
    container.init.signal(9).await.unwrap();
    let begin = Instant::now();
    processes::signal(server.pid(), Signal::TERM);
    let socket = server.service.socket.clone();
    eventually("it serves nobody any more", || UnixStream::connect(&socket).is_err()).await;
    // 2 s are for calls under way.
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    server.logs("some calls are not answered").await;
    // The kernel ends no thread before that, and closes no connection.
    frozen.thaw();
    patiently("the end of the call", create).await.unwrap().expect_err("the server is gone");
    let (status, _) = server.end(Signal::TERM).await;
    assert!(status.success(), "{status}");

    server.start_again().await;
    assert_eq!(container.init.exit().await, 137);
    finish(disk, server).await;
}

/// Every exit came once, and nothing is left, also on the disk.
async fn finish(disk: Disk, server: Server) {
    let state = disk.path().join("state");
    eventually("no state is left", || leftovers::in_state(&state, 1).is_empty()).await;
    server.finish().await;
    disk.finish().await;
}
