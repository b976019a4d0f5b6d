//! Checkpoints, as far as no CRIU is needed for them: names, options, lists and failures. A runtime
//! that only says that it made one stands in for the real one.

use std::fs;

use Runtime::Runc;
use gantry_api::types::{
    Checkpoint, CreateCheckpointRequest, DeleteCheckpointRequest, ListCheckpointRequest,
};
use gantry_tests::{Container, Runtime, Server, improves, runtime::wrapper, status::assert_error};
use tonic::{Code, Status};

/// A container on a runtime that does this for a checkpoint.
async fn on_runtime(server: &Server, checkpoint: &str) -> Container {
    let script = format!("case $command in checkpoint) {checkpoint};; esac");
    let runtime = wrapper(server.work(), Runc, &script);
    let container = server.container("c").runtime(Runc);
    let container = container.request(|r| r.runtime = runtime.to_str().unwrap().to_owned());
    container.create().await.unwrap()
}

#[tokio::test]
async fn options_reach_the_runtime_and_are_listed() {
    if improves("it keeps the images elsewhere") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let seen = server.work().join("arguments");
    let container = on_runtime(&server, &format!("echo \"$@\" > {}; exit 0", seen.display())).await;
    let all = Checkpoint {
        name: "all".to_owned(),
        tcp: true,
        unix_sockets: true,
        shell: true,
        empty_ns: vec!["network".to_owned()],
        exit: false,
    };
    create(&server, all.clone()).await.unwrap();
    let arguments = fs::read_to_string(&seen).unwrap();
    for flag in ["--tcp-established", "--ext-unix-sk", "--shell-job", "--leave-running", "network"]
    {
        assert!(arguments.contains(flag), "no {flag} in {arguments}");
    }
    let plain = Checkpoint { name: "plain".to_owned(), ..Checkpoint::default() };
    create(&server, plain.clone()).await.unwrap();
    let arguments = fs::read_to_string(&seen).unwrap();
    assert!(!arguments.contains("--tcp-established"), "{arguments}");

    assert_error(create(&server, plain.clone()).await, Code::AlreadyExists, &["plain"]);
    assert_eq!(list(&server).await, [all, plain]);
    assert!(container.bundle.join("checkpoints/all/config.json").exists());
    delete(&server, "all").await.unwrap();
    assert!(!container.bundle.join("checkpoints/all").exists());
    assert_error(delete(&server, "all").await, Code::NotFound, &["all"]);
    assert_eq!(list(&server).await.len(), 1);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn only_a_checkpoint_is_deleted() {
    if improves("it removes whatever is there") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let container = on_runtime(&server, "exit 0").await;
    let made = Checkpoint { name: "made".to_owned(), ..Checkpoint::default() };
    create(&server, made).await.unwrap();
    let all = container.bundle.join("checkpoints");
    let config = fs::read_to_string(all.join("made/config.json")).unwrap();
    let refused = async |name: &str, why: &str| {
        assert_error(delete(&server, name).await, Code::FailedPrecondition, &[name, why]);
        assert!(all.join(name).join("config.json").exists(), "{name}");
    };
    // A bundle, say.
    fs::create_dir(all.join("bundle")).unwrap();
    fs::copy(container.bundle.join("config.json"), all.join("bundle/config.json")).unwrap();
    refused("bundle", "created").await;
    // Nothing but a description of one.
    fs::create_dir(all.join("bare")).unwrap();
    fs::write(all.join("bare/config.json"), &config).unwrap();
    refused("bare", "image").await;
    fs::write(all.join("bare/precious"), "").unwrap();
    fs::write(all.join("bare/inventory.img"), "").unwrap();
    refused("bare", "precious").await;
    std::os::unix::fs::symlink(all.join("made"), all.join("link")).unwrap();
    refused("link", "link").await;
    fs::create_dir(all.join("made/directory.img")).unwrap();
    refused("made", "directory.img").await;
    fs::remove_dir(all.join("made/directory.img")).unwrap();
    fs::remove_file(all.join("link")).unwrap();
    fs::remove_file(all.join("bare/precious")).unwrap();
    for name in ["made", "bare"] {
        delete(&server, name).await.unwrap();
        assert!(!all.join(name).exists());
    }
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn a_checkpoint_may_be_the_end() {
    let Some(server) = Server::own(Runc).await else { return };
    // As the real one does: the processes are killed when their state is on disk.
    let root = server.service.runtime_root(Runc);
    let kill = format!("exec runc --root {} kill c KILL", root.display());
    let container = on_runtime(&server, &kill).await;
    let last = Checkpoint { name: "last".to_owned(), exit: true, ..Checkpoint::default() };
    create(&server, last).await.unwrap();
    assert_eq!(container.init.exit().await, 137);
    server.finish().await;
}

#[tokio::test]
async fn a_failed_checkpoint_changes_nothing() {
    if improves("it leaves a directory") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let container = on_runtime(&server, "echo 'criu says no' >&2; exit 1").await;
    let new = Checkpoint { name: "new".to_owned(), exit: true, ..Checkpoint::default() };
    let error = create(&server, new).await.unwrap_err();
    assert!(error.message().contains("oci runtime error: "), "{error:?}");
    assert!(error.message().contains("criu says no"), "{error:?}");
    assert_eq!(container.state().await.unwrap().status, "running");
    assert_eq!(list(&server).await, []);
    assert!(!container.bundle.join("checkpoints/new").exists());
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn names_are_checked() {
    if improves("it makes a path of any name") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let container = on_runtime(&server, "exit 0").await;
    for name in ["", "..", "a/b", "../../c", "-x"] {
        let bad = Checkpoint { name: name.to_owned(), ..Checkpoint::default() };
        assert_error(create(&server, bad).await, Code::InvalidArgument, &["name"]);
        assert_error(delete(&server, name).await, Code::InvalidArgument, &["name"]);
    }
    let restored = server.container("r").request(|request| request.checkpoint = "../x".to_owned());
    assert_error(restored.create().await, Code::InvalidArgument, &["checkpoint"]);
    let restored = server.container("r").request(|request| request.checkpoint = "none".to_owned());
    assert_error(restored.create().await, Code::NotFound, &["none"]);
    let fresh = server.container("r").sh("exit 3").create().await.unwrap();
    assert_eq!(fresh.init.exit().await, 3);
    container.init.kill().await;
    server.finish().await;
}

async fn create(server: &Server, checkpoint: Checkpoint) -> Result<(), Status> {
    let (id, checkpoint) = ("c".to_owned(), Some(checkpoint));
    let request = CreateCheckpointRequest { id, checkpoint, ..<_>::default() };
    server.service.api().create_checkpoint(request).await.map(drop)
}

async fn delete(server: &Server, name: &str) -> Result<(), Status> {
    let (id, name) = ("c".to_owned(), name.to_owned());
    let request = DeleteCheckpointRequest { id, name, ..<_>::default() };
    server.service.api().delete_checkpoint(request).await.map(drop)
}

async fn list(server: &Server) -> Vec<Checkpoint> {
    let request = ListCheckpointRequest { id: "c".to_owned(), ..<_>::default() };
    server.service.api().list_checkpoint(request).await.unwrap().into_inner().checkpoints
}
