//! A container whose making is cut short: runtime, shim and server are killed, in one order or the other.

use std::fs;

use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{
    PATIENCE, Runtime, Server, eventually, processes,
    runtime::{HangingRuntime, wrapper},
    variants,
};
use rstest::rstest;
use rustix::process::Signal;

#[rstest]
#[tokio::test]
async fn the_next_server_removes_what_a_killed_runtime_has_made(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
    #[values(true, false)] noted: bool,
) {
    let Some(variant) = variants::find("failpoints") else { return };
    let armed = tempfile::Builder::new().prefix("gantry-armed-").tempdir().unwrap();
    let setup = Server::setup(runtime).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut server) = setup.start().await else { return };
    let hanging = HangingRuntime::new(server.work(), runtime);
    let container = |server: &Server| {
        let path = hanging.path.to_str().unwrap().to_owned();
        server.container("c").runtime(runtime).request(move |request| request.runtime = path)
    };
    let making = container(&server);
    let making = tokio::spawn(async move { making.create().await.map(drop) });
    eventually("the runtime has made it", || hanging.has_made()).await;
    let shim = processes::busy_shim(server.work(), &server.service.cgroup);
    if noted {
        fs::write(armed.path().join(Point::ServerFailureNoted.name()), "").unwrap();
        processes::signal(shim, Signal::KILL);
        making.await.unwrap().unwrap_err();
        assert!(processes::ends_within(server.pid(), PATIENCE).await, "it dies at the point");
        server.kill().await;
    } else {
        // Otherwise it would end what it makes as soon as its server is gone.
        processes::signal(shim, Signal::STOP);
        server.kill().await;
        making.await.unwrap().unwrap_err();
        processes::signal(shim, Signal::KILL);
    }

    hanging.hang_no_more();
    server.start_again().await;
    let container = container(&server).create().await.unwrap();
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_next_server_outlasts_a_runtime_that_still_makes_it(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
    #[values(true, false)] finishes: bool,
) {
    let Some(mut server) = Server::setup(runtime).start().await else { return };
    let [begun, waits] = ["begun", "waits"].map(|name| server.work().join(name));
    fs::write(&waits, "").unwrap();
    let script = format!(
        r#"
case $command in create|run)
    if mkdir {begun}; then
        while [ -e {waits} ]; do sleep 0.1; done
    fi ;;
esac"#,
        begun = begun.display(),
        waits = waits.display(),
    );
    let slow = wrapper(server.work(), runtime, &script);
    let container = |server: &Server| {
        let path = slow.to_str().unwrap().to_owned();
        server.container("c").runtime(runtime).request(move |request| request.runtime = path)
    };
    let making = container(&server);
    let making = tokio::spawn(async move { making.create().await.map(drop) });
    eventually("the runtime works", || begun.exists()).await;
    let shim = processes::busy_shim(server.work(), &server.service.cgroup);
    processes::signal(shim, Signal::STOP);
    server.kill().await;
    making.await.unwrap().unwrap_err();
    processes::signal(shim, Signal::KILL);

    server.start_again().await;
    if finishes {
        fs::remove_file(&waits).unwrap();
    }
    let container = container(&server).create().await.unwrap();
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}
