//! A container belongs to the runtime, root and arguments that it was made with.

use std::{fs, path::PathBuf};

use Runtime::{Crun, Runc};
use gantry_tests::{PATIENCE, Runtime, Server, improves, runtime::wrapper, status::assert_error};
use tonic::Code;

#[tokio::test]
async fn a_container_stays_with_its_runtime() {
    if improves("the original asks its default of today") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let ended = server.container("ended").create().await.unwrap();
    let root = server.service.runtime_root(Runc);
    server.kill().await;
    ended.init.shim().expect("a shim");
    gantry_tests::processes::kill(ended.init.system_pid);
    assert!(ended.init.ends_within(PATIENCE).await);
    let elsewhere = server.work().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    server
        .start_again_with(&[
            "--runtime",
            "/bin/false",
            "--runtime-args=--root",
            &format!("--runtime-args={elsewhere}"),
        ])
        .await;
    assert_eq!(ended.init.exit().await, 137);
    assert_eq!(Runtime::list(&root), ["c"], "the ended one is deleted where it was made");
    assert_eq!(container.state().await.unwrap().runtime, "runc");
    let exec = container.exec("e").sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    container.pause().await;
    container.resume().await;
    assert_eq!(container.init.kill().await, 137);
    assert_eq!(Runtime::list(&root), [""; 0]);
    server.finish().await;
}

#[tokio::test]
async fn a_runtime_that_is_missing_for_a_while() {
    if improves("the original asks its default of today") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let program = wrapper(server.work(), Runc, "");
    let named = |id: &str| {
        let container = server.container(id).runtime(Runc);
        container.request(|request| request.runtime = program.to_str().unwrap().to_owned())
    };
    let container = named("c").create().await.unwrap();
    let aside = server.work().join("aside");
    fs::rename(&program, &aside).unwrap();
    server.kill().await;
    server.start_again().await;
    assert_eq!(container.state().await.unwrap().runtime, program.to_str().unwrap());
    let error = container.exec("e").sh("true").start().await.unwrap_err();
    assert!(error.message().to_lowercase().contains("no such file"), "{error:?}");
    fs::rename(&aside, &program).unwrap();
    let exec = container.exec("e").sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// crun keeps its containers in XDG_RUNTIME_DIR where its arguments name no root.
#[tokio::test]
async fn a_container_stays_where_it_was_made() {
    if improves("the original asks in its place of today") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let program = wrapper(directory.path(), Crun, r#"[ "$1" = --root ] && shift 2"#);
    let place = |dir: &PathBuf| format!("--runtime-env=XDG_RUNTIME_DIR={}", dir.display());
    for dir in [&first, &second] {
        fs::create_dir(dir).unwrap();
    }
    let setup = Server::setup(Crun).runtime_path(&program).arguments(&[&place(&first)]);
    let Some(mut server) = setup.start().await else { return };
    let ended = server.container("ended").create().await.unwrap();
    let container = server.container("c").create().await.unwrap();
    let mut there = Runtime::list(&first.join("crun"));
    there.sort_unstable();
    assert_eq!(there, ["c", "ended"]);
    server.kill().await;
    ended.init.shim().expect("a shim");
    gantry_tests::processes::kill(ended.init.system_pid);
    assert!(ended.init.ends_within(PATIENCE).await);
    server.start_again_with(&[&place(&second)]).await;
    assert_eq!(ended.init.exit().await, 137);
    assert_eq!(Runtime::list(&first.join("crun")), ["c"]);
    let exec = container.exec("e").sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    container.pause().await;
    container.resume().await;
    let later = server.container("later").create().await.unwrap();
    assert_eq!(Runtime::list(&second.join("crun")), ["later"]);
    for container in [container, later] {
        assert_eq!(container.init.kill().await, 137);
    }
    for dir in [first, second] {
        assert_eq!(Runtime::list(&dir.join("crun")), [""; 0]);
    }
    server.finish().await;
}

#[tokio::test]
async fn the_defaults_arguments_are_not_for_a_runtime_that_is_named() {
    if improves("the original passes them on") {
        return;
    }
    let Some(server) = Server::setup(Crun).arguments(&["--runtime-args=--debug"]).start().await
    else {
        return;
    };
    let seen = server.work().join("calls");
    let program = wrapper(server.work(), Runc, &format!("echo \"$@\" >> {}", seen.display()));
    let container = server.container("c").runtime(Runc);
    let container = container.request(|r| r.runtime = program.to_str().unwrap().to_owned());
    let container = container.create().await.unwrap();
    container.init.kill().await;
    let calls = fs::read_to_string(seen).unwrap();
    assert!(!calls.contains("--debug") && !calls.contains("/crun"), "{calls}");
    let bad = server.container("d").request(|request| request.runtime = "/bin/false".to_owned());
    assert_error(bad.create().await, Code::FailedPrecondition, &["oci runtime error"]);
    server.finish().await;
}
