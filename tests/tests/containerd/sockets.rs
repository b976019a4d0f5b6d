//! Several sockets of one server.

use gantry_api::{
    containerd::version::version_client::VersionClient, types::GetServerVersionRequest,
};
use gantry_tests::{Runtime, Server, service};
use rustix::process::Signal;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::Bed;

#[tokio::test]
async fn all_sockets_serve_everything() {
    let work = tempfile::tempdir().unwrap();
    let second = work.path().join("deeper/containerd.sock");
    let setup = Server::setup(Runtime::Runc);
    let setup = setup.arguments(&["--listen", &format!("unix://{}", second.display())]);
    let Some(mut bed) = Bed::start_with(setup).await else { return };
    let first = bed.server.service.socket.clone();
    for signal in [Signal::KILL, Signal::TERM] {
        for socket in [&first, &second] {
            let channel = service::endpoint(socket).connect().await.unwrap();
            let health = HealthCheckRequest::default();
            HealthClient::new(channel.clone()).check(health).await.unwrap();
            VersionClient::new(channel).version(()).await.unwrap();
            let mut api = service::connect(socket);
            api.get_server_version(GetServerVersionRequest {}).await.unwrap();
        }
        bed.server.end(signal).await;
        let stays = signal == Signal::KILL;
        assert_eq!((first.exists(), second.exists()), (stays, stays), "{signal:?}");
        bed.server.start_again().await;
    }
    bed.server.finish().await;
}
