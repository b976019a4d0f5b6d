//! A server that cannot start a process says so, and goes on.

use std::os::unix::fs::symlink;

use Runtime::Runc;
use gantry_tests::{Runtime, Server, improves, runtime::write_script, service::endpoint};
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

async fn health(server: &Server) -> [ServingStatus; 2] {
    let mut client = HealthClient::new(endpoint(&server.service.socket).connect_lazy());
    let mut answers = [NotServing; 2];
    for (service, answer) in ["", "types.API"].into_iter().zip(&mut answers) {
        let request = HealthCheckRequest { service: service.to_owned() };
        *answer = client.check(request).await.unwrap().into_inner().status();
    }
    answers
}

#[tokio::test]
async fn a_missing_runtime_is_reported_and_looked_for_again() {
    if improves("it is well without") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let runtime = work.path().join("late-runtime");
    let setup = Server::setup(Runc).runtime_path(&runtime);
    let Some(server) = setup.start().await else { return };
    assert_eq!(health(&server).await, [Serving, NotServing]);
    server.logs("late-runtime").await;
    assert!(server.log().contains("WARN"), "{}", server.log());
    server.container("c").create().await.unwrap_err();
    write_script(&runtime, "#!/bin/sh\nexec runc \"$@\"\n");
    assert_eq!(health(&server).await, [Serving, Serving]);
    let container = server.container("c").create().await.unwrap();
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn a_missing_shim_is_reported_and_looked_for_again() {
    if improves("it is well without") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let shim = work.path().join("late-shim");
    let setup = Server::setup(Runc).arguments(&["--shim-binary", shim.to_str().unwrap()]);
    let Some(server) = setup.start().await else { return };
    assert_eq!(health(&server).await, [Serving, NotServing]);
    server.logs("late-shim").await;
    server.container("c").create().await.unwrap_err();
    let built = gantry_tests::programs::server().with_file_name("gantry-shim");
    symlink(gantry_tests::programs::shim().unwrap_or(built), &shim).unwrap();
    assert_eq!(health(&server).await, [Serving, Serving]);
    let container = server.container("c").create().await.unwrap();
    container.init.kill().await;
    server.finish().await;
}
