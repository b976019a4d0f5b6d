//! Requests that are repeated because their answer was lost: `gantry-idempotency-key`.

use gantry_api::types::{self, CreateContainerRequest};
use gantry_tests::{Runtime, Server, eventually, patiently, runtime::HangingRuntime};
use rstest::rstest;
use tonic::{Code, Request, Status};

use crate::{
    Bed, of,
    tasks::{NewTask, finish},
};

const KEY: &str = "gantry-idempotency-key";

fn keyed<T>(key: &str, mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert(KEY, key.parse().expect("ASCII"));
    request
}

/// A container of `types.API` without streams; its pid on the host.
async fn create(bed: &Bed, key: &str, request: &CreateContainerRequest) -> Result<u32, Status> {
    let request = keyed(key, Request::new(request.clone()));
    let answer = bed.server.service.api().create_container(request).await?.into_inner();
    let init: types::Process = answer.container.unwrap().processes.swap_remove(0);
    Ok(init.system_pid)
}

fn request(bed: &Bed, id: &str) -> CreateContainerRequest {
    let bundle_path = bed.server.container(id).bundle().to_str().unwrap().to_owned();
    CreateContainerRequest { id: id.to_owned(), bundle_path, ..Default::default() }
}

async fn kill(bed: &Bed, id: &str) {
    let position = bed.server.service.events.position();
    let request = types::SignalRequest { id: id.to_owned(), pid: "init".to_owned(), signal: 9 };
    bed.server.service.api().signal(request).await.unwrap();
    bed.server.service.events.wait_type(position, id, gantry_api::event_type::EXIT).await;
}

#[rstest]
#[tokio::test]
async fn the_same_request_has_the_same_container_also_from_the_next_server(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(mut bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let a = request(&bed, "a");
    let pid = create(&bed, "k", &a).await.unwrap();
    let mut new = NewTask::new(&bed, "ns", "a");
    new.create_container().await.unwrap();
    let new_task = new.request.clone();
    let task = async |bed: &Bed, key| {
        let request = keyed(key, of("ns", new_task.clone()));
        bed.tasks().create(request).await.map(|answer| answer.into_inner().pid)
    };
    let task_pid = task(&bed, "k").await.unwrap();
    for restart in [false, true] {
        if restart {
            bed.server.kill().await;
            bed.server.start_again().await;
        }
        // The bundle is not read again: it may be gone.
        std::fs::rename(&a.bundle_path, format!("{}.gone", a.bundle_path)).unwrap();
        assert_eq!(create(&bed, "k", &a).await.unwrap(), pid);
        std::fs::rename(format!("{}.gone", a.bundle_path), &a.bundle_path).unwrap();
        assert_eq!(task(&bed, "k").await.unwrap(), task_pid);

        // Another request.
        let other = CreateContainerRequest { labels: vec!["b".to_owned()], ..a.clone() };
        for other in [other, request(&bed, "b")] {
            let refused = create(&bed, "k", &other).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let problem = "was given with another request, which has made the container a";
            assert_eq!(refused.message(), format!("{KEY}: {problem}"));
        }
        assert_eq!(create(&bed, "other", &a).await.unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(task(&bed, "other").await.unwrap_err().code(), Code::AlreadyExists);
    }
    // With the container goes its key.
    kill(&bed, "a").await;
    let b = create(&bed, "k", &request(&bed, "b")).await.unwrap();
    assert_ne!(b, pid);
    kill(&bed, "b").await;
    bed.tasks().delete(of("ns", delete("a"))).await.unwrap();
    let again = task(&bed, "k").await.unwrap();
    assert_ne!(again, task_pid);
    bed.tasks().delete(of("ns", delete("a"))).await.unwrap();
    finish(bed).await;
}

fn delete(id: &str) -> gantry_api::containerd::tasks::DeleteTaskRequest {
    gantry_api::containerd::tasks::DeleteTaskRequest { container_id: id.to_owned() }
}

/// One of them makes it. If the caller of that one goes away, the other does.
#[tokio::test]
async fn two_at_once_have_one_container() {
    let Some(bed) = Bed::start().await else { return };
    let runtime = HangingRuntime::new(bed.server.work(), Runtime::Runc);
    let a = CreateContainerRequest {
        runtime: runtime.path.to_str().unwrap().to_owned(),
        runtime_args: Runtime::Runc.arguments(&bed.server.service.runtime_root(Runtime::Runc)),
        ..request(&bed, "a")
    };
    let begin = |request: CreateContainerRequest| {
        let mut api = bed.server.service.api();
        let request = keyed("k", Request::new(request));
        tokio::spawn(async move { api.create_container(request).await })
    };
    let first = begin(a.clone());
    eventually("the runtime has made it", || runtime.has_made()).await;
    let second = begin(a.clone());
    let other = CreateContainerRequest { no_pivot_root: true, ..a.clone() };
    assert_eq!(create(&bed, "k", &other).await.unwrap_err().code(), Code::InvalidArgument);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    runtime.hang_no_more();
    let pids = patiently("both", futures(second, begin(a))).await;
    assert_eq!(pids.0, pids.1);
    kill(&bed, "a").await;
    finish(bed).await;
}

type Creating =
    tokio::task::JoinHandle<Result<tonic::Response<types::CreateContainerResponse>, Status>>;

async fn futures(one: Creating, other: Creating) -> (u32, u32) {
    let pid = async |creating: Creating| {
        let container = creating.await.unwrap().unwrap().into_inner().container.unwrap();
        container.processes[0].system_pid
    };
    tokio::join!(pid(one), pid(other))
}

#[tokio::test]
async fn keys_are_bounded() {
    let Some(bed) = Bed::start().await else { return };
    let a = request(&bed, "a");
    for key in ["", &"k".repeat(129), "a b"] {
        let refused = create(&bed, key, &a).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(&format!("{KEY}: must be ")), "{refused:?}");
    }
    finish(bed).await;
}
