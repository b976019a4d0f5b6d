//! The errors that callers get, and that nothing is left of a failed call.

use std::fs;

use Runtime::{Crun, Runc};
use gantry_api::types::{
    AddProcessRequest, DeleteCheckpointRequest, EventsRequest, ListCheckpointRequest,
    SignalRequest, StatsRequest, UpdateContainerRequest, UpdateProcessRequest,
};
use gantry_tests::{Runtime, Server, improves, runtime::write_script, status::assert_error};
use rstest::rstest;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const RUNTIME: &str = "oci runtime error: ";

#[rstest]
#[tokio::test]
async fn missing_command(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let result = server.container("c").args(&["no-such-program"]).create().await;
    let phrases = [not_found(runtime), "no-such-program"];
    assert_runtime_error(result, &phrases);
    let result = server.container("c").args(&["/bin/no-such-program"]).create().await;
    assert_runtime_error(result, &["no such file or directory"]);
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn directory_as_command(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let result = server.container("c").args(&["/tmp"]).create().await;
    assert_runtime_error(result, &[not_executable(runtime)]);
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn bad_working_directory(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").config(|c| c["process"]["cwd"] = json!("/bin/sh"));
    assert_runtime_error(container.create().await, &["not a directory"]);
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn bad_rootfs(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").config(|config| {
        config["root"]["path"] = json!("/no/such/rootfs");
    });
    assert_runtime_error(
        container.create().await,
        &["/no/such/rootfs", "no such file or directory"],
    );
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn bad_mount(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").config(|config| {
        let mount = json!({ "destination": "/x", "type": "bind", "source": "/no/such/source",
                            "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert_runtime_error(
        container.create().await,
        &["/no/such/source", "no such file or directory"],
    );
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn unparsable_config(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original says EOF") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let bundle = server.work().join("broken");
    fs::create_dir(&bundle).unwrap();
    for text in ["", "{", "[1, 2", "\0\0\0\0", "{\"process\": 5}"] {
        fs::write(bundle.join("config.json"), text).unwrap();
        let result = server.container("c").request(|request| {
            request.bundle_path = bundle.to_str().unwrap().to_owned();
        });
        assert_runtime_error(result.create().await, &[]);
    }
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn missing_runtime() {
    if improves("the original keeps a directory, and the id is taken for good") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let create = |name: &str| {
        let name = name.to_owned();
        server.container("c").request(|request| request.runtime = name).create()
    };
    for name in ["no-such-runtime", "/no/such/runtime", "/tmp"] {
        assert_runtime_error(create(name).await, &[name]);
    }
    assert_names_field(create("relative/runtime").await, "runtime");
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn a_runtime_without_a_message_is_reported_by_its_status() {
    if improves("the original says that it was not started") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    // What a runtime that dies before it opens its log has to say is on its stderr, and that is the
    // container's.
    let runtime = server.work().join("runtime");
    write_script(&runtime, "#!/bin/sh\necho 'something of my own' >&2\nexit 3\n");
    let result = server.container("c").request(|request| {
        request.runtime = runtime.to_str().unwrap().to_owned();
    });
    let error = result.create().await.unwrap_err();
    assert!(error.message().contains(RUNTIME), "{error:?}");
    assert!(error.message().contains("exit status 3"), "{error:?}");
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn bad_bundle_path() {
    let Some(server) = Server::start(Runc).await else { return };
    let missing = "/no/such/bundle";
    let create = |path: &str| {
        let path = path.to_owned();
        server.container("c").request(|request| request.bundle_path = path).create()
    };
    let phrases = [missing, "no such file or directory"];
    assert_error(create(missing).await, Code::InvalidArgument, &phrases);
    for path in ["", "relative/path"] {
        assert_names_field(create(path).await, "bundlePath");
    }
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn bad_stdio_path() {
    let Some(server) = Server::start(Runc).await else { return };
    let paths = ["relative", "/no/such/dir/stdout", "/dev/null/x", "/usr"];
    for (stream, path) in paths.map(|path| ("stdout", path)).into_iter().chain([("stdin", "/usr")])
    {
        let container = server.container("c").without_pipes().request(|request| match stream {
            "stdin" => request.stdin = path.to_owned(),
            _ => request.stdout = path.to_owned(),
        });
        assert_error(container.create().await, Code::InvalidArgument, &[stream, path]);
    }
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn bad_ids() {
    if improves("the original makes a path of any id, \"..\" too") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let long = "x".repeat(129);
    let bad = ["", ".", "..", "a/b", "../../etc", "-rm", "a b", "a\nb", "é", "a\0b", &long];
    let container = server.container("good").create().await.unwrap();
    let mut api = server.service.api();
    for id in bad {
        let result = server.container("c").without_pipes();
        let result = result.request(|request| request.id = id.to_owned());
        assert_names_field(result.create().await, "id");
        let exec = container.exec(id).without_pipes().sh("true");
        assert_names_field(exec.start().await, "pid");
        let request = SignalRequest { id: id.to_owned(), pid: "init".to_owned(), signal: 15 };
        assert!(api.signal(request).await.is_err());
    }
    let longest = "y".repeat(128);
    let exec = container.exec(&longest).without_pipes().sh("true").start().await.unwrap();
    assert_eq!(exec.exit().await, 0);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let Some(server) = Server::start(Runc).await else { return };
    let first = server.container("c").create().await.unwrap();
    assert_error(server.container("c").sh("true").create().await, Code::AlreadyExists, &["c"]);
    let exec = first.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let again = first.exec("e").without_pipes().sh("true").start().await;
    assert_error(again, Code::AlreadyExists, &["e"]);
    let state = first.state().await.unwrap();
    assert_eq!(state.processes.len(), 2);
    assert!(state.processes.iter().any(|process| process.system_pid == first.init.system_pid));
    exec.kill().await;
    first.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn unknown_container() {
    if improves("the original has other words for it in State") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let mut api = server.service.api();
    let id = "unknown".to_owned();
    let (pid, name) = ("init".to_owned(), "c".to_owned());
    let not_found = |result: Result<(), Status>| {
        assert_error(result, Code::NotFound, &["container not found"]);
    };
    not_found(server.service.state(&id).await.map(drop));
    let request = SignalRequest { id: id.clone(), pid: pid.clone(), signal: 15 };
    not_found(api.signal(request).await.map(drop));
    let request = UpdateProcessRequest { id: id.clone(), pid, close_stdin: true, ..<_>::default() };
    not_found(api.update_process(request).await.map(drop));
    let status = "paused".to_owned();
    let request = UpdateContainerRequest { id: id.clone(), status, ..<_>::default() };
    not_found(api.update_container(request).await.map(drop));
    not_found(api.stats(StatsRequest { id: id.clone() }).await.map(drop));
    let request = ListCheckpointRequest { id: id.clone(), ..<_>::default() };
    not_found(api.list_checkpoint(request).await.map(drop));
    let request = DeleteCheckpointRequest { id: id.clone(), name, ..<_>::default() };
    not_found(api.delete_checkpoint(request).await.map(drop));
    let (pid, args) = ("e".to_owned(), vec!["true".to_owned()]);
    let request = AddProcessRequest { id, pid, args, cwd: "/".to_owned(), ..<_>::default() };
    not_found(api.add_process(request).await.map(drop));
    server.finish().await;
}

#[tokio::test]
async fn unknown_process() {
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let mut exec = container.exec("e").sh("true").start().await.unwrap();
    exec.exit().await;
    assert_error(exec.signal(15).await, Code::NotFound, &["process not found"]);
    exec.id = "never-there".to_owned();
    assert_error(exec.close_stdin().await, Code::NotFound, &["process not found"]);
    assert_error(exec.signal(15).await, Code::NotFound, &["process not found"]);
    assert_error(exec.resize(80, 24).await, Code::NotFound, &["process not found"]);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn bad_signals() {
    if improves("the original passes any number on") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    for signal in [65, 1000, u32::MAX] {
        assert_names_field(container.init.signal(signal).await, "signal");
    }
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn bad_status() {
    if improves("the original does nothing for a status it does not know") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    assert_names_field(container.set_status("asleep").await, "status");
    let result = container.set_status("running").await;
    assert_error(result, Code::FailedPrecondition, &["running"]);
    container.pause().await;
    let result = container.set_status("paused").await;
    assert_error(result, Code::FailedPrecondition, &["paused"]);
    container.resume().await;
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn an_exec_without_a_program() {
    if improves("the original asks the runtime, which crashes") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    assert_names_field(container.exec("e").without_pipes().start().await, "args");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_failed_exec_leaves_its_container_alone(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = |args: &[&str]| container.exec("e").args(args);
    let phrases = [not_found(runtime), "no-such-program"];
    assert_runtime_error(exec(&["no-such-program"]).start().await, &phrases);
    let phrases = [not_executable(runtime)];
    assert_runtime_error(exec(&["/tmp"]).start().await, &phrases);
    let phrases = ["no such file or directory"];
    let result = exec(&["true"]).request(|request| request.cwd = "/no/such".to_owned());
    assert_runtime_error(result.start().await, &phrases);

    let state = container.state().await.unwrap();
    assert_eq!((state.status.as_str(), state.processes.len()), ("running", 1));
    assert_eq!(state.pids, [container.init.system_pid]);
    let again = exec(&["true"]).start().await.unwrap();
    assert_eq!(again.exit().await, 0);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn huge_labels() {
    if improves("the original keeps them, and cannot report its state any more") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let label = "x".repeat(10 << 20);
    let container = server.container("c").request(|request| request.labels = vec![label]);
    assert_names_field(container.create().await, "labels");
    assert_id_is_free(&server).await;
    server.finish().await;
}

#[tokio::test]
async fn stored_events_need_a_beginning() {
    let Some(server) = Server::start(Runc).await else { return };
    let request = EventsRequest { stored_only: true, ..EventsRequest::default() };
    let result = async {
        let mut stream = server.service.api().events(request).await?.into_inner();
        stream.message().await
    };
    assert_error(result.await, Code::InvalidArgument, &["timestamp"]);
    server.finish().await;
}

/// How a runtime says that a command is not in `$PATH`; a daemon makes exit code 127 of either.
fn not_found(runtime: Runtime) -> &'static str {
    match runtime {
        Runc => "executable file not found",
        Crun => "no such file or directory",
    }
}

/// How a runtime says that a command is a directory.
fn not_executable(runtime: Runtime) -> &'static str {
    match runtime {
        Runc => "permission denied",
        Crun => "operation not permitted",
    }
}

/// The runtime's own words; which of the two codes it is depends on whether the words are known.
#[track_caller]
fn assert_runtime_error<T: std::fmt::Debug>(result: Result<T, Status>, phrases: &[&str]) {
    let error = result.expect_err("an error");
    let code = match error.code() {
        Code::FailedPrecondition => Code::FailedPrecondition,
        _ => Code::InvalidArgument,
    };
    let all: Vec<_> = [RUNTIME].iter().chain(phrases).copied().collect();
    assert_error::<()>(Err(error), code, &all);
}

/// An id that a failed call has used works at once.
async fn assert_id_is_free(server: &Server) {
    gantry_tests::leftovers::assert_no_cgroup(&server.service);
    let container = server.container("c").sh("exit 9").create().await.unwrap();
    assert_eq!(container.init.exit().await, 9);
}

#[track_caller]
fn assert_names_field<T: std::fmt::Debug>(result: Result<T, Status>, field: &str) {
    let error = result.expect_err("an error");
    if gantry_tests::programs::is_incumbent() {
        return;
    }
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    let details = error.get_details_bad_request().expect("google.rpc.BadRequest in the details");
    let fields: Vec<_> = details.field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, [field], "{error:?}");
}
