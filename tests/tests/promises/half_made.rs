//! A container whose making is cut short: runtime, shim and server are killed, one after the other.

use std::fs;

use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{
    PATIENCE, Runtime, Server, eventually,
    processes::{self, Found},
    runtime::wrapper,
    variants,
};
use rstest::rstest;
use rustix::process::Signal;

/// The runtime has made the container, and has not said so.
#[rstest]
#[tokio::test]
async fn the_next_server_removes_what_a_killed_runtime_has_made(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(variant) = variants::find("failpoints") else { return };
    let armed = tempfile::Builder::new().prefix("gantry-armed-").tempdir().unwrap();
    let setup = Server::setup(runtime).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut server) = setup.start().await else { return };
    let (hangs, made) = (server.work().join("hangs"), server.work().join("made"));
    let script = format!(
        r#"
case $command in create|run)
    if [ -e {hangs} ]; then
        count=$# skip=
        while [ "$count" -gt 0 ]; do
            word=$1 count=$((count - 1))
            shift
            case $skip$word in
                yes*) skip= ;;
                --pid-file) skip=yes ;;
                *) set -- "$@" "$word" ;;
            esac
        done
        {runtime} "$@" && : > {made}
        exec sleep 1000000
    fi ;;
esac"#,
        hangs = hangs.display(),
        made = made.display(),
        runtime = runtime.name(),
    );
    let wrapper = wrapper(server.work(), runtime, &script);
    let container = |server: &Server| {
        let path = wrapper.to_str().unwrap().to_owned();
        server.container("c").runtime(runtime).request(move |request| request.runtime = path)
    };
    fs::write(&hangs, "").unwrap();
    fs::write(armed.path().join(Point::ServerFailureNoted.name()), "").unwrap();
    let making = container(&server);
    let making = tokio::spawn(async move { making.create().await.map(drop) });
    eventually("the runtime has made it", || made.exists()).await;
    let (work, cgroup) = (server.work().to_owned(), server.service.cgroup.clone());
    let shim = |found: &Found| found.is_program("gantry-shim") && !found.is_spare_shim();
    let shim = processes::belonging_to(&work, &cgroup).into_iter().find(shim).expect("a shim");
    processes::signal(shim.pid, Signal::KILL);
    making.await.unwrap().unwrap_err();
    assert!(processes::ends_within(server.pid(), PATIENCE).await, "it does not die at the point");
    server.kill().await;

    fs::remove_file(&hangs).unwrap();
    server.start_again().await;
    let container = container(&server).create().await.unwrap();
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}
