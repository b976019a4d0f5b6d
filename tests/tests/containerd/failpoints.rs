//! The server dies at each step of a task's life in turn. Every call that is made again then succeeds or says
//! that it was done, the exits are the true ones, and nothing is left.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_api::containerd::tasks::{
    CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, KillRequest,
    StartRequest, WaitRequest, tasks_client::TasksClient,
};
use gantry_api::containerd::{runc::Options, to_any, type_url};
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{Runtime, Server, Variant, bundle::Bundle, processes, runtime, variants};
use serde_json::json;
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    Bed, any, container, of, rootfs,
    tasks::{self, finish},
};

type Client = TasksClient<Channel>;

const NAMESPACE: &str = "ns";
const ID: &str = "c";
const EXEC: &str = "e";

/// Cases at a time: a dying server is waited for more than worked on.
const AT_ONCE: usize = 8;

/// How long a server may take to die after the connection to it has ended.
const DEATH: std::time::Duration = std::time::Duration::from_secs(2);

/// Each is reached in the life of a task with an exec.
const POINTS: [Point; 29] = [
    Point::ServerDirectoryMade,
    Point::ServerContainerRecorded,
    Point::ServerBundleMade,
    Point::ServerProcessRecorded,
    Point::ServerInitPlaced,
    Point::ServerLaunchSent,
    Point::ServerLaunchedReceived,
    Point::ServerStarted,
    Point::ServerStartToBeJournalled,
    Point::ServerStartJournalled,
    Point::ServerStartNoted,
    Point::ServerOperated,
    Point::ServerExecPlaced,
    Point::ServerExecSpecWritten,
    Point::ServerExecToBeJournalled,
    Point::ServerExecJournalled,
    Point::ServerExecNoted,
    Point::ServerExecExited,
    Point::ServerExecExitJournalled,
    Point::ServerExecRemoved,
    Point::ServerInitExited,
    Point::ServerInitDismissed,
    Point::ServerCleared,
    Point::ServerRuntimeDeleted,
    Point::ServerCgroupRemoved,
    Point::ServerUnmounted,
    Point::ServerSetAside,
    Point::ServerExitJournalled,
    Point::ServerStateRemoved,
];

/// Each is reached while a task is created.
const OF_A_CREATE: [Point; 8] = [
    Point::ServerDirectoryMade,
    Point::ServerContainerRecorded,
    Point::ServerBundleMade,
    Point::ServerProcessRecorded,
    Point::ServerInitPlaced,
    Point::ServerLaunchSent,
    Point::ServerLaunchedReceived,
    Point::ServerStartToBeJournalled,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_die_at_each_step_of_a_task() {
    at_each(&POINTS, live).await;
}

/// Whoever has asked for the task asks for nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_back_undoes_what_was_half_made() {
    at_each(&OF_A_CREATE, give_up).await;
}

/// Each is reached while a task is restored.
const OF_A_RESTORE: [Point; 6] = [
    Point::ServerProcessRecorded,
    Point::ServerInitPlaced,
    Point::ServerLaunchSent,
    Point::ServerLaunchedReceived,
    Point::ServerOperated,
    Point::ServerStartJournalled,
];

/// It is restored once, or can be started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_die_at_each_step_of_a_restore() {
    at_each(&OF_A_RESTORE, restore).await;
}

async fn restore(variant: Variant, point: Point) {
    let Some((mut bed, file, armed)) = armed(&variant, point).await else { return };
    fs::remove_file(&file).unwrap();
    let script = format!("case $command in restore) {};; esac", tasks::RESTORE);
    let runtime = runtime::wrapper(armed.path(), Runtime::Runc, &script);
    let image = tasks::make_image(&bed);
    let task = CreateTaskRequest {
        options: Some(to_any(&Options {
            binary_name: runtime.to_str().unwrap().to_owned(),
            criu_image_path: image.to_str().unwrap().to_owned(),
            ..Options::default()
        })),
        ..new_task(&bed)
    };
    bed.tasks().create(of(NAMESPACE, task)).await.unwrap();
    fs::write(&file, "").unwrap();
    start(&mut bed, "").await;
    assert!(!file.exists(), "the point was not reached");
    let kill = KillRequest { container_id: ID.to_owned(), signal: 9, ..Default::default() };
    bed.tasks().kill(of(NAMESPACE, kill)).await.unwrap();
    assert_eq!(wait(&mut bed, "").await, 137);
    let task = DeleteTaskRequest { container_id: ID.to_owned() };
    bed.tasks().delete(of(NAMESPACE, task)).await.unwrap();
    end_of(bed).await;
}

async fn at_each<F: Future<Output = ()> + Send + 'static>(
    points: &[Point],
    case: fn(Variant, Point) -> F,
) {
    let Some(variant) = variants::find("failpoints") else { return };
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for &point in points {
        let (variant, turns) = (variant.clone(), Arc::clone(&turns));
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("not closed");
            // A task of its own, so that its panic is known as its.
            let ended = tokio::spawn(case(variant, point)).await;
            ended.err().map(|error| format!("{point:?}: {error}"))
        });
    }
    let failed: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}

/// A server that dies at the point, and the file that says that it has not yet. A container is there.
async fn armed(variant: &Variant, point: Point) -> Option<(Bed, PathBuf, TempDir)> {
    let armed = tempfile::Builder::new().prefix("gantry-armed-").tempdir().unwrap();
    let setup = Server::setup(Runtime::Runc).variant(variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let bed = Bed::start_with(setup).await?;
    create_container(&bed).await;
    let file = armed.path().join(point.name());
    fs::write(&file, "").unwrap();
    Some((bed, file, armed))
}

/// Two layers, and something in them: what is mounted is not removed with what it is mounted on.
fn new_task(bed: &Bed) -> CreateTaskRequest {
    let mounts = vec![rootfs::overlay(bed, "upper"), rootfs::tmpfs("tmp")];
    CreateTaskRequest { container_id: ID.to_owned(), rootfs: mounts, ..Default::default() }
}

async fn end_of(bed: Bed) {
    rootfs::assert_whole(&bed);
    finish(bed).await;
}

async fn give_up(variant: Variant, point: Point) {
    let Some((mut bed, file, _armed)) = armed(&variant, point).await else { return };
    let created = bed.tasks().create(of(NAMESPACE, new_task(&bed))).await;
    assert!(created.is_err(), "{created:?}");
    assert!(!file.exists(), "the point was not reached");
    assert!(revive(&mut bed).await);
    end_of(bed).await;
}

async fn live(variant: Variant, point: Point) {
    let Some((mut bed, file, _armed)) = armed(&variant, point).await else { return };
    let first = bed.server.pid();

    let id = || ID.to_owned();
    let exists = |error: &Status| error.code() == Code::AlreadyExists;
    let gone = |error: &Status| error.code() == Code::NotFound;
    let task = new_task(&bed);
    call(&mut bed, task, |mut tasks: Client, task| async move { tasks.create(task).await }, exists)
        .await;
    start(&mut bed, "").await;
    let process =
        json!({ "args": ["sh", "-c", "exit 7"], "cwd": "/", "env": ["PATH=/bin"], "user": {} });
    let exec = ExecProcessRequest {
        container_id: id(),
        exec_id: EXEC.to_owned(),
        spec: Some(any(type_url::PROCESS, process.to_string().as_bytes())),
        ..Default::default()
    };
    call(&mut bed, exec, |mut tasks: Client, exec| async move { tasks.exec(exec).await }, exists)
        .await;
    start(&mut bed, EXEC).await;
    assert_eq!(wait(&mut bed, EXEC).await, 7);
    let exec = DeleteProcessRequest { container_id: id(), exec_id: EXEC.to_owned() };
    let delete = |mut tasks: Client, exec| async move { tasks.delete_process(exec).await };
    let deleted = call(&mut bed, exec, delete, gone).await;
    assert!(deleted.is_none_or(|deleted| deleted.exit_status == 7));
    let kill = KillRequest { container_id: id(), signal: 9, ..Default::default() };
    call(&mut bed, kill, |mut tasks: Client, kill| async move { tasks.kill(kill).await }, gone)
        .await;
    assert_eq!(wait(&mut bed, "").await, 137);
    let task = DeleteTaskRequest { container_id: id() };
    let deleted = call(
        &mut bed,
        task,
        |mut tasks: Client, task| async move { tasks.delete(task).await },
        gone,
    )
    .await;
    assert!(deleted.is_none_or(|deleted| deleted.exit_status == 137));

    assert!(!file.exists(), "the point was not reached");
    // It may have died after its last answer.
    if bed.server.pid() == first {
        assert!(revive(&mut bed).await);
    }
    end_of(bed).await;
}

/// Each is reached while an exec is started that cannot be.
const OF_A_FAILED_EXEC: [Point; 5] = [
    Point::ServerProcessRecorded,
    Point::ServerExecPlaced,
    Point::ServerExecSpecWritten,
    Point::ServerLaunchSent,
    Point::ServerExecUndone,
];

/// It is known until it is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_die_at_each_step_of_an_exec_that_cannot_be_started() {
    at_each(&OF_A_FAILED_EXEC, fail_exec).await;
}

async fn fail_exec(variant: Variant, point: Point) {
    let Some((mut bed, file, _armed)) = armed(&variant, point).await else { return };
    fs::remove_file(&file).unwrap();
    bed.tasks().create(of(NAMESPACE, new_task(&bed))).await.unwrap();
    start(&mut bed, "").await;
    let process = json!({ "args": ["no-such-program"], "cwd": "/", "user": {} });
    let exec = ExecProcessRequest {
        container_id: ID.to_owned(),
        exec_id: EXEC.to_owned(),
        spec: Some(any(type_url::PROCESS, process.to_string().as_bytes())),
        ..Default::default()
    };
    bed.tasks().exec(of(NAMESPACE, exec)).await.unwrap();
    fs::write(&file, "").unwrap();
    let request = StartRequest { container_id: ID.to_owned(), exec_id: EXEC.to_owned() };
    let failed = |error: &Status| error.message().contains("no-such-program");
    let start = |mut tasks: Client, request| async move { tasks.start(request).await };
    let started = call(&mut bed, request.clone(), start, failed).await;
    assert_eq!(started, None, "a program that is not there was started");
    assert!(!file.exists(), "the point was not reached");
    // Also by the server after this one.
    bed.server.kill().await;
    bed.server.start_again().await;
    assert_eq!(call(&mut bed, request, start, failed).await, None);
    let exec = DeleteProcessRequest { container_id: ID.to_owned(), exec_id: EXEC.to_owned() };
    bed.tasks().delete_process(of(NAMESPACE, exec)).await.unwrap();
    let kill = KillRequest { container_id: ID.to_owned(), signal: 9, ..Default::default() };
    bed.tasks().kill(of(NAMESPACE, kill)).await.unwrap();
    assert_eq!(wait(&mut bed, "").await, 137);
    let task = DeleteTaskRequest { container_id: ID.to_owned() };
    bed.tasks().delete(of(NAMESPACE, task)).await.unwrap();
    end_of(bed).await;
}

async fn create_container(bed: &Bed) {
    let cgroup = format!("{}/{ID}", bed.server.service.cgroup);
    let rootfs = Path::new("rootfs");
    let mut config = Bundle::new(bed.server.work().join("bundles"), rootfs, &cgroup).config;
    config["process"]["args"] = json!(["sleep", "1000000"]);
    let mut container = container(ID);
    container.spec = Some(any(type_url::SPEC, config.to_string().as_bytes()));
    bed.create(NAMESPACE, container).await.unwrap();
}

async fn start(bed: &mut Bed, exec: &str) {
    let request = StartRequest { container_id: ID.to_owned(), exec_id: exec.to_owned() };
    let started = |error: &Status| error.message().starts_with("cannot start a ");
    call(
        bed,
        request,
        |mut tasks: Client, request| async move { tasks.start(request).await },
        started,
    )
    .await;
}

async fn wait(bed: &mut Bed, exec: &str) -> u32 {
    let request = WaitRequest { container_id: ID.to_owned(), exec_id: exec.to_owned() };
    let wait = |mut tasks: Client, request| async move { tasks.wait(request).await };
    call(bed, request, wait, |_| false).await.expect("an exit").exit_status
}

/// Calls until there is an answer, or an error that says that an earlier call was heard.
async fn call<Q: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
    bed: &mut Bed,
    request: Q,
    call: impl Fn(Client, Request<Q>) -> F,
    was_heard: impl Fn(&Status) -> bool,
) -> Option<T> {
    loop {
        match call(bed.tasks(), of(NAMESPACE, request.clone())).await {
            Ok(answer) => return Some(answer.into_inner()),
            Err(error) if was_heard(&error) => return None,
            Err(error) => assert!(revive(bed).await, "a call failed: {error:?}"),
        }
    }
}

/// Starts the server again if it has died, or is about to; whether it had.
async fn revive(bed: &mut Bed) -> bool {
    let dead = processes::ends_within(bed.server.pid(), DEATH).await;
    if dead {
        bed.server.kill().await;
        bed.server.start_again().await;
    }
    dead
}
