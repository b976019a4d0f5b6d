//! What is refused, and in which words.

use gantry_api::containerd::{
    runc::{CheckpointOptions, Options},
    tasks::{CheckpointTaskRequest, DeleteTaskRequest, GetRequest},
    to_any, type_url, types,
};
use serde_json::json;
use tonic::{Code, Request, Status};

use super::{NewTask, Task, finish, request};
use crate::{Bed, any, assert_refused, container};

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let Some(bed) = Bed::start().await else { return };
    let get = |id: &str| GetRequest { container_id: id.to_owned(), exec_id: String::new() };
    let missing = r#"container "c" in namespace "ns": not found"#;
    let got = bed.tasks().get(request("ns", get("c"))).await;
    assert_refused(got.map(drop), Code::NotFound, missing);
    let delete = DeleteTaskRequest { container_id: "c".to_owned() };
    let deleted = bed.tasks().delete(request("ns", delete)).await;
    assert_refused(deleted.map(drop), Code::NotFound, missing);
    bed.create("ns", container("c")).await.unwrap();
    let got = bed.tasks().get(request("ns", get("c"))).await;
    assert_refused(got.map(drop), Code::NotFound, "task c not found");
    let required = "namespace is required: failed precondition";
    let got = bed.tasks().get(Request::new(get("c"))).await;
    assert_refused(got.map(drop), Code::FailedPrecondition, required);
    finish(bed).await;
}

#[tokio::test]
async fn a_task_is_created_and_started_once() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let again = NewTask::new(&bed, "ns", "c").create().await;
    assert_refused(again.map(|_| ()), Code::AlreadyExists, "task c: already exists");
    task.start("").await.unwrap();
    let running = "cannot start a running process: unknown";
    assert_refused(task.start("").await, Code::Unknown, running);
    let running = "cannot delete a running process: unknown";
    assert_refused(task.delete().await, Code::Unknown, running);
    let unknown = "process does not exist e: not found";
    assert_refused(task.start("e").await, Code::NotFound, unknown);
    assert_refused(task.kill("e", 9).await, Code::NotFound, unknown);
    let error = task.kill("", 65).await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.message().starts_with("signal: "));
    task.end().await;
    finish(bed).await;
}

/// dockerd looks for the runtime's words.
#[tokio::test]
async fn a_missing_program_is_reported_with_the_runtimes_message() {
    let Some(bed) = Bed::start().await else { return };
    let new = NewTask::new(&bed, "ns", "c");
    let new = new.config(|config| config["process"]["args"] = json!(["no-such-program"]));
    // runc finds out when it creates the container.
    let error = new.create().await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Unknown, "{error:?}");
    let words = error.message();
    assert!(
        words.starts_with("failed to create shim task: OCI runtime create failed: "),
        "{words}"
    );
    assert!(words.contains("executable file not found"), "{words}");
    assert!(words.ends_with(": unknown"), "{words}");
    // The id is free.
    let get = GetRequest { container_id: "c".to_owned(), exec_id: String::new() };
    let got = bed.tasks().get(request("ns", get)).await;
    assert_refused(got.map(drop), Code::NotFound, "task c not found");
    finish(bed).await;
}

#[tokio::test]
async fn what_cannot_be_created_is_named() {
    let Some(bed) = Bed::start().await else { return };
    let options = |options: Options| Some(to_any(&options));
    type Change = Box<dyn Fn(&mut NewTask<'_>)>;
    let changes: Vec<(Change, Code, &str)> = vec![
        (
            Box::new(|new| new.request.runtime_path = "kata".into()),
            Code::InvalidArgument,
            "runtime_path: ",
        ),
        (
            Box::new(|new| new.request.options = Some(any("a.b/Other", b"x"))),
            Code::InvalidArgument,
            "options: ",
        ),
        (
            Box::new(move |new| {
                let binary_name = "./runc".to_owned();
                new.request.options = options(Options { binary_name, ..Options::default() });
            }),
            Code::InvalidArgument,
            "options.binary_name: ",
        ),
        (
            Box::new(move |new| {
                let criu_image_path = "image".to_owned();
                new.request.options = options(Options { criu_image_path, ..Options::default() });
            }),
            Code::InvalidArgument,
            "options.criu_image_path: ",
        ),
        (
            Box::new(|new| new.request.checkpoint = Some(types::Descriptor::default())),
            Code::Unknown,
            "unsupported checkpoint type \"\"",
        ),
        (
            Box::new(move |new| {
                let binary_name = "no-such-runtime".to_owned();
                new.request.options = options(Options { binary_name, ..Options::default() });
            }),
            Code::Unknown,
            "failed to create shim task: OCI runtime create failed: exec: \"no-such-runtime\": executable file not found",
        ),
        (
            Box::new(|new| {
                new.request.rootfs =
                    vec![types::Mount { target: "../x".into(), ..Default::default() }];
            }),
            Code::InvalidArgument,
            "rootfs.target: ",
        ),
        (
            Box::new(|new| {
                new.request.rootfs = vec![types::Mount {
                    r#type: "bind".into(),
                    source: "/no/such/directory".into(),
                    ..Default::default()
                }];
            }),
            Code::Unknown,
            "failed to create shim task: rootfs: ",
        ),
    ];
    for (number, (change, code, words)) in changes.into_iter().enumerate() {
        let mut new = NewTask::new(&bed, "ns", &format!("c{number}"));
        change(&mut new);
        let error = new.create().await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.message().starts_with(words), "{error:?}");
    }
    // A container may have any runtime and any specification; a task may not. Nobody looks at the type of the latter.
    let mut kata = container("kata");
    kata.runtime.as_mut().unwrap().name = "io.containerd.kata.v2".to_owned();
    let mut other = container("other");
    other.spec = Some(any(type_url::PROCESS, b"{}"));
    let refused = [
        (kata, Code::InvalidArgument, "container.runtime.name: "),
        (other, Code::Unknown, "failed to create shim task: OCI runtime create failed: "),
    ];
    for (container, code, words) in refused {
        let id = container.id.clone();
        bed.create("ns", container).await.unwrap();
        let asked = gantry_api::containerd::tasks::CreateTaskRequest {
            container_id: id,
            ..Default::default()
        };
        let error = bed.tasks().create(request("ns", asked)).await.unwrap_err();
        assert!(error.code() == code && error.message().starts_with(words), "{error:?}");
    }
    finish(bed).await;
}

#[tokio::test]
async fn options_say_where_the_runtime_keeps_its_state() {
    let Some(bed) = Bed::start().await else { return };
    let root = bed.server.work().join("runc");
    let mut new = NewTask::new(&bed, "ns", "c");
    new.request.options = Some(to_any(&Options {
        root: root.to_str().unwrap().to_owned(),
        binary_name: "runc".to_owned(),
        no_new_keyring: true,
        io_uid: 1,
        io_gid: 1,
        shim_cgroup: "/shims".to_owned(),
        ..Options::default()
    }));
    let task = new.create().await.unwrap();
    assert!(root.join("ns").join("c").is_dir(), "a directory for each namespace");
    task.start("").await.unwrap();
    task.end().await;
    std::fs::remove_dir(root.join("ns")).expect("an empty directory");
    finish(bed).await;
}

async fn checkpoint(bed: &Bed, task: &Task<'_>, options: Option<prost_types::Any>) -> Status {
    let container_id = task.id.clone();
    let asked = CheckpointTaskRequest { container_id, options, ..CheckpointTaskRequest::default() };
    bed.tasks().checkpoint(request(&task.namespace, asked)).await.unwrap_err()
}

#[tokio::test]
async fn a_checkpoint_is_refused_before_anything_is_done() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    let image_path = bed.server.work().join("image").to_str().unwrap().to_owned();
    let at = |image_path: &str| {
        let image_path = image_path.to_owned();
        Some(to_any(&CheckpointOptions { exit: true, image_path, ..Default::default() }))
    };
    task.start("").await.unwrap();
    let other = checkpoint(&bed, &task, Some(any("a.b/Other", b"x"))).await;
    assert_eq!(other.code(), Code::InvalidArgument);
    let words = "invalid task checkpoint option for io.containerd.runc.v2";
    assert!(other.message().contains(words), "{other:?}");
    assert_eq!(checkpoint(&bed, &task, at("image")).await.code(), Code::InvalidArgument);
    task.kill("", 9).await.unwrap();
    task.wait("").await.unwrap();
    let stopped = checkpoint(&bed, &task, at(&image_path)).await;
    let words = "cannot checkpoint a stopped container: unknown";
    assert_eq!((stopped.code(), stopped.message()), (Code::Unknown, words));
    task.delete().await.unwrap();
    finish(bed).await;
}
